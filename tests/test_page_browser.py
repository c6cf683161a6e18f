"""The page in a real browser: what is typed is read, shown as text only, and reached by keyboard."""

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from serving.settings import Settings
from tests.servers import Server

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FOUND = next(filter(None, map(shutil.which, _BROWSERS)), None)

pytestmark = pytest.mark.skipif(
    _FOUND is None, reason=f"no browser: none of {', '.join(_BROWSERS)} is installed"
)

# Only a failing test waits as long: a busy machine must not make one fail.
_PATIENCE_MS = 60_000
expect.set_options(timeout=_PATIENCE_MS)

HOSTILE = (
    '<img src=x onerror="window.pwned = 1"> Two workers in Vladivostok 🚢 said oil & coal.\n\n'
    "<script>window.pwned = 2</script> The bank listed a tanker on Monday. "
    "'\"><b>Security council</b> &amp; port."
)


@pytest.fixture(scope="module")
def address(tiny_folder: Path) -> Iterator[str]:
    with Server(Settings(model=tiny_folder)) as server:
        yield f"{server.url}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not start in containers that run as root.
        launched = playwright.chromium.launch(executable_path=_FOUND, chromium_sandbox=os.geteuid() != 0)
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    made.set_default_timeout(_PATIENCE_MS)
    made.grant_permissions(["clipboard-read", "clipboard-write"])
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """The page, opened. Whatever it asks of another server, or the console complains of, fails the test."""
    opened = context.new_page()
    elsewhere: list[str] = []
    complaints: list[str] = []
    opened.on("request", lambda r: None if r.url.startswith(address) else elsewhere.append(r.url))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    opened.goto(address)
    expect(opened.locator("#examples button").first).to_be_visible()
    yield opened
    assert elsewhere == []
    # The console also notes each answer that is no 200, and those are what some tests are about.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def analyze(page: Page, text: str, title: str = "", min_score: float | None = 0.0) -> dict[str, Any]:
    """Type, click, and return the only result in the JSON beside the text."""
    if min_score is not None:
        page.locator("#own-minimum").check()
        page.locator("#minimum").fill(str(min_score))
    page.locator("#title").fill(title)
    page.locator("#text").fill(text)
    page.locator("#analyze").click()
    expect(page.locator("#text-read")).to_be_visible()
    result: dict[str, Any] = json.loads(page.locator("#json").text_content() or "")["results"][0]
    return result


def utf16(text: str, start: int, end: int) -> str:
    return text.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")


def test_a_text_with_markup_is_shown_as_typed_with_its_spans_and_labels(page: Page) -> None:
    title = "<i>Port</i> of Vladivostok"
    result = analyze(page, HOSTILE, title)
    assert page.locator("#text-read").text_content() == HOSTILE
    assert page.locator("#title-read").text_content() == title
    assert page.evaluate("window.pwned") is None
    tags = page.evaluate("[...new Set([...document.querySelectorAll('#document *')].map(e => e.tagName))]")
    assert set(tags) <= {"H2", "DIV", "MARK", "SPAN"}
    assert result["entities"]
    assert page.locator("mark").all_text_contents() == [entity["text"] for entity in result["entities"]]
    shown = [mark.get_attribute("data-type") for mark in page.locator("mark").all()]
    assert shown == [entity["type"] for entity in result["entities"]]
    names = page.locator(".label-head .name").all_text_contents()
    assert {name.replace(" ", "_") for name in names} == {label["label"] for label in result["labels"]}
    tokens = result["coverage"]["tokens"]
    expect(page.locator("#status")).to_contain_text(f"Read whole: {tokens} tokens")


def test_the_model_that_answered_is_named(page: Page) -> None:
    expect(page.locator("#model")).to_contain_text("tiny version 1")
    analyze(page, "oil")
    model = json.loads(page.locator("#json").text_content() or "")["model"]
    expect(page.locator("#model code")).to_have_text(f"sha256 {model['sha256'][:12]}")


def test_a_label_shows_its_sentences_by_pointer_and_by_keyboard(page: Page) -> None:
    result = analyze(page, HOSTILE)
    for label in result["labels"]:
        item = page.locator(f"li[data-label={label['label']}]")
        quotes = [utf16(HOSTILE, sentence["start"], sentence["end"]) for sentence in label["evidence"]]
        assert item.locator(".words").all_text_contents() == quotes
        for approach in (item.hover, item.locator(".label-head").focus):
            approach()
            expect(page.locator(".evident").first).to_be_visible()
            marked = "".join(page.locator(".evident").all_text_contents())
            assert sorted(marked) == sorted("".join(quotes))
            page.mouse.move(0, 0)
            page.evaluate("document.activeElement.blur()")
            expect(page.locator(".evident")).to_have_count(0)


def test_the_sentence_pointed_at_stands_out(page: Page) -> None:
    labels = analyze(page, HOSTILE)["labels"]
    label = next(label for label in labels if len(label["evidence"]) > 1)
    quotes = page.locator(f"li[data-label={label['label']}] .quote")
    for rank in (1, 0):
        quotes.nth(rank).focus()
        sentence = label["evidence"][rank]
        strongest = "".join(page.locator(".evident.first").all_text_contents())
        assert strongest == utf16(HOSTILE, sentence["start"], sentence["end"])


def test_the_legend_counts_and_toggles_types_and_remembers_them(page: Page) -> None:
    entities = analyze(page, HOSTILE)["entities"]
    type_ = entities[0]["type"]
    button = page.locator(f"#legend button[data-type={type_}]")
    count = sum(entity["type"] == type_ for entity in entities)
    expect(button.locator(".number")).to_have_text(str(count))
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    assert page.locator("mark.off").count() == page.locator(f"mark[data-type={type_}]").count() == count
    assert page.locator("#text-read").text_content() == HOSTILE
    assert page.evaluate("getComputedStyle(document.querySelector('mark.off'), '::after').content") == "none"
    page.locator("#own-minimum").uncheck()
    with page.expect_response("**/v1/analyze"):
        page.locator("#own-minimum").check()
    expect(page.locator("mark.off")).to_have_count(count)
    button.press("Enter")
    expect(page.locator("mark.off")).to_have_count(0)
    page.locator("#legend .sweep").click()
    expect(page.locator("mark:not(.off)")).to_have_count(0)


def test_the_arrow_keys_move_between_spans_and_tab_leaves_them(page: Page) -> None:
    entities = analyze(page, HOSTILE)["entities"]
    assert len(entities) > 2
    page.locator("#legend .sweep").focus()
    page.keyboard.press("Tab")
    expect(page.locator("mark").nth(0)).to_be_focused()
    for key, index in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("Home", 0), ("End", -1)):
        page.keyboard.press(key)
        expect(page.locator("mark").nth(index)).to_be_focused()
        entity = entities[index]
        detail = page.locator("#detail")
        expect(detail).to_contain_text(entity["type"])
        expect(detail).to_contain_text(f"{entity['score']:.3f}")
        expect(detail).to_contain_text(f"{entity['field']}[{entity['start']}:{entity['end']}]")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#document')") is None
    page.keyboard.press("Shift+Tab")
    expect(page.locator("mark").last).to_be_focused()


def test_everything_can_be_done_without_a_pointer(page: Page) -> None:
    page.locator("#text").focus()
    page.keyboard.type("oil and coal")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#text-read")).to_have_text("oil and coal")
    expect(page.locator("#document")).to_be_focused()
    page.locator("[name=mode][value=read]").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#text")).to_be_visible()
    page.locator("[name=panel][value=labels]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#json")).to_be_visible()


def test_the_minimum_score_replaces_the_thresholds(page: Page) -> None:
    assert analyze(page, HOSTILE)["entities"]
    with page.expect_request("**/v1/analyze") as asked:
        page.locator("#minimum").fill("1")
    assert asked.value.post_data_json["options"] == {
        "evidence": True,
        "offset_unit": "utf16",
        "min_score": 1,
    }
    expect(page.locator("#labels")).to_have_text("No label reaches 1.00.")
    expect(page.locator("mark")).to_have_count(0)


def test_a_document_error_is_shown_as_the_server_gave_it(page: Page) -> None:
    page.locator("#text").fill("  ")
    page.locator("#analyze").click()
    problem = page.locator("#problem")
    expect(problem).to_be_visible()
    error = json.loads(page.locator("#json").text_content() or "")["results"][0]["error"]
    expect(problem).to_contain_text(error["code"])
    expect(problem).to_contain_text(error["message"])
    assert page.locator("#text").input_value() == "  "


def test_a_refused_request_is_shown_with_the_time_to_wait(page: Page) -> None:
    def refuse(route: Route) -> None:
        body = {"type": "about:blank", "title": "Busy", "status": 429, "detail": "The <b>queue</b> is full."}
        route.fulfill(status=429, json=body, headers={"Retry-After": "7"})

    page.route("**/v1/analyze", refuse)
    page.locator("#text").fill("oil")
    page.locator("#analyze").click()
    expect(page.locator("#problem")).to_have_text("Busy429The <b>queue</b> is full. Retry after 7 s.")
    page.unroute("**/v1/analyze")
    page.locator("#analyze").click()
    expect(page.locator("#text-read")).to_have_text("oil")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_key_is_asked_for_only_where_one_is_needed(page: Page) -> None:
    expect(page.locator("#key-form")).to_be_hidden()


def test_a_key_is_given_once_a_tab_and_can_be_forgotten(tiny_folder: Path, context: BrowserContext) -> None:
    settings = Settings(model=tiny_folder, api_keys=(sha256(b"secret").hexdigest(),))
    with Server(settings) as server:
        page, address = context.new_page(), f"{server.url}/"
        page.goto(address)
        problem = page.locator("#problem")
        expect(problem).to_contain_text("No valid key")
        expect(page.locator("#key")).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(problem).to_contain_text("No valid key")
        page.locator("#key").fill(" secret ")
        page.keyboard.press("Enter")
        expect(problem).to_be_hidden()
        expect(page.locator("#model")).to_contain_text("tiny")
        assert analyze(page, "Oil in Vladivostok.")["error"] is None
        page.reload()
        expect(page.locator("#model")).to_contain_text("tiny")
        assert page.evaluate("[localStorage.length, location.href.includes('secret')]") == [0, False]
        other = context.new_page()
        other.goto(address)
        expect(other.locator("#problem")).to_contain_text("No valid key")
        page.locator("#forget-key").click()
        expect(problem).to_contain_text("No valid key")
        assert page.evaluate("sessionStorage.length") == 0
        page.goto(address + "docs")
        expect(page.locator(".authorize").first).to_be_visible()


def test_a_server_that_is_gone_is_said_to_be(page: Page) -> None:
    page.route("**/v1/analyze", lambda route: route.abort())
    page.locator("#text").fill("oil")
    page.locator("#analyze").click()
    expect(page.locator("#problem")).to_contain_text("The server did not answer")


def test_a_link_carries_the_text_and_nothing_is_sent_elsewhere(page: Page, context: BrowserContext) -> None:
    result = analyze(page, HOSTILE, "Port 🚢", min_score=0.25)
    page.locator("#share").click()
    expect(page.locator("#share")).to_have_text("Copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert "#d=" in link
    other = context.new_page()
    other.goto(link)
    expect(other.locator("#title-read")).to_have_text("Port 🚢")
    assert other.locator("#text-read").text_content() == HOSTILE
    expect(other.locator("#minimum-shown")).to_have_text("0.25")
    assert other.locator("mark").all_text_contents() == [entity["text"] for entity in result["entities"]]
    other.goto(link[:-20] + "AAAA")
    other.reload()
    expect(other.locator("#problem")).to_contain_text("The link is damaged")


def test_the_json_is_copied_whole(page: Page) -> None:
    analyze(page, "oil")
    page.locator("#copy-json").click()
    expect(page.locator("#copy-json")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#json").text_content()


@pytest.mark.parametrize("example", range(6))
def test_an_example_is_read_at_a_click(page: Page, example: int) -> None:
    button = page.locator("#examples button").nth(example)
    button.click()
    expect(page.locator("#text-read")).to_be_visible()
    assert page.locator("#text-read").text_content() == page.locator("#text").input_value()


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    too_wide = "document.documentElement.scrollWidth > innerWidth"
    assert page.evaluate(too_wide) is False
    analyze(page, "oil " * 50 + "x" * 400)
    assert page.evaluate(too_wide) is False
    page.locator("mark").last.focus()
    box = page.locator("#detail").bounding_box()
    assert box is not None
    assert 0 <= box["x"] <= box["x"] + box["width"] <= width


def test_the_choice_of_colours_is_kept(page: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.locator("#theme").get_by_text("Dark").click()
    dark = page.evaluate(paper)
    assert light != dark
    page.reload()
    expect(page.locator("#examples button").first).to_be_visible()
    assert page.evaluate(paper) == dark
    page.locator("#theme").get_by_text("Auto").click()
    assert page.evaluate(paper) == light


# Colours of the legend as bytes of sRGB: a canvas turns whatever notation a browser computes into them.
_READ_COLOURS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const bytes = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const of = (element, name) => bytes(getComputedStyle(element)[name]);
  return {
    paper: of(document.body, "backgroundColor"),
    text: of(document.body, "color"),
    quiet: of(document.querySelector("#status"), "color"),
    bands: [...document.querySelectorAll("#text-read > .evident")].map((piece) =>
      of(piece, "backgroundColor")),
    types: [...document.querySelectorAll("#legend .swatch")].map((swatch) => ({
      type: swatch.parentElement.dataset.type,
      tint: of(swatch, "backgroundColor"),
      ink: of(swatch, "borderBottomColor"),
    })),
  };
}"""


def linear(colour: list[int]) -> np.ndarray[Any, Any]:
    srgb = np.array(colour) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(one: list[int], other: list[int]) -> float:
    """The ratio of WCAG 2, 1 to 21."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    dark, light = sorted([float(linear(one) @ weights), float(linear(other) @ weights)])
    return (light + 0.05) / (dark + 0.05)


def oklab(colour: list[int]) -> np.ndarray[Any, Any]:
    """Björn Ottosson's OKLab, where equal distances look about equally different."""
    to_cones = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
    to_lab = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
              [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip
    return np.array(to_lab) @ np.cbrt(np.array(to_cones) @ linear(colour))


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_the_colours_of_types_can_be_told_apart_and_read(page: Page, theme: str) -> None:
    page.locator("#theme").get_by_text(theme).click()
    analyze(page, HOSTILE)
    page.locator(".label-head").first.focus()
    colours = page.evaluate(_READ_COLOURS)
    assert len(colours["types"]) == 13
    assert colours["bands"]
    assert all(contrast(colours["text"], band) >= 4.5 for band in colours["bands"])
    assert contrast(colours["quiet"], colours["paper"]) >= 4.5
    for entry in colours["types"]:
        assert contrast(entry["ink"], entry["tint"]) >= 4.5, entry["type"]
        assert contrast(colours["text"], entry["tint"]) >= 7, entry["type"]
        assert contrast(entry["ink"], colours["paper"]) >= 4.5, entry["type"]
    for one, other in itertools.combinations(colours["types"], 2):
        names = (one["type"], other["type"])
        assert np.linalg.norm(oklab(one["ink"]) - oklab(other["ink"])) >= 0.04, names
        assert np.linalg.norm(oklab(one["tint"]) - oklab(other["tint"])) >= 0.015, names
