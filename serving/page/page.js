// The page: a form, one request at a time to POST v1/analyze, and what it answered.

import { byId, element } from "./dom.js";
import { keep, key } from "./key.js";
import { showLegend } from "./legend.js";
import { glossary, labelPanel, modelLine, problem } from "./panels.js";
import { goToSentence, hideTypes, markSentences, showDocument } from "./reading.js";
import { Refusal, ask } from "./server.js";
import { contentOf, copy, linkTo } from "./share.js";
import { followTheme, option, say, setMode, setPanel, showJson, turnToText } from "./view.js";

const PAUSE_BEFORE_ASKING_AGAIN_MS = 200;
const COPIED_SHOWN_MS = 1500;
const NO_VALID_KEY = 401;

const [title, text, minimum, ownMinimum] = ["title", "text", "minimum", "own-minimum"].map(byId);
const number = new Intl.NumberFormat("en");

let card = { types: [], labels: [] };
let read = null; // What is shown: title, text and minScore as they were sent.
let asking = new AbortController();
let pause = 0;

const counted = (count, noun) => `${number.format(count)} ${noun}${count === 1 ? "" : "s"}`;
const filledIn = () => ({
  title: title.value,
  text: text.value,
  minScore: ownMinimum.checked ? Number(minimum.value) : null,
});

/** Leave off what is being asked or about to be. */
function stop() {
  clearTimeout(pause);
  asking.abort();
  document.body.removeAttribute("aria-busy");
}

async function analyze() {
  stop();
  asking = new AbortController();
  const { signal } = asking;
  const sent = filledIn();
  const request = {
    documents: [{ text: sent.text, title: sent.title || null }],
    options: { evidence: true, offset_unit: "utf16", min_score: sent.minScore },
  };
  say("Reading …");
  document.body.setAttribute("aria-busy", "true");
  const begun = performance.now();
  try {
    const answer = await ask("v1/analyze", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
      signal,
    });
    show(sent, answer, performance.now() - begun);
  } catch (error) {
    if (error.name !== "AbortError") refuse(error);
  } finally {
    if (!signal.aborted) document.body.removeAttribute("aria-busy");
  }
}

function show(sent, answer, milliseconds) {
  const [result] = answer.results;
  byId("model").replaceChildren(...modelLine(answer.model));
  if (result.error) throw new Refusal("The document was not read", result.error.code, result.error.message, answer);
  read = sent;
  option("mode", "read").disabled = false;
  byId("problem").hidden = true;
  showDocument(sent, result, card.types);
  showLegend(card.types, result.entities, hideTypes);
  const quote = (sentence) => sent[sentence.field].slice(sentence.start, sentence.end);
  const on = { enter: markSentences, leave: () => markSentences(), go };
  byId("labels").replaceChildren(...labelPanel(result.labels, card.labels, sent.minScore, quote, on));
  showJson(answer);
  turnToText();
  const { tokens, windows, truncated } = result.coverage;
  const time = `${number.format(Math.round(milliseconds))} ms`;
  say(
    [counted(result.entities.length, "span"), counted(result.labels.length, "label"), time].join(", "),
    `${truncated ? "Read only in part" : "Read whole"}: ${counted(tokens, "token")} in ${counted(windows, "window")}`,
  );
}

function go(sentence) {
  setMode("read");
  goToSentence(sentence);
}

function refuse(error) {
  // Anything else is our own fault: the console keeps its trace.
  if (!(error instanceof Refusal)) console.error(error);
  const { title: name = "This page failed", code = "page", message: detail, body = null } = error;
  forget();
  byId("problem").replaceChildren(...problem({ title: name, code, detail }));
  byId("problem").hidden = false;
  if (code === NO_VALID_KEY) askForKey();
  if (body) showJson(body);
  say("No result");
}

/** The field for a key is there for those whose server asks for one. */
function askForKey() {
  byId("key-form").hidden = false;
  byId("key").value = key();
  byId("key").focus();
}

async function onKey(event) {
  event.preventDefault();
  keep(byId("key").value.trim());
  byId("problem").hidden = true;
  await load();
}

async function onForgetKey() {
  stop();
  keep("");
  await load();
}

/** Back to the form, without a result. */
function forget() {
  read = null;
  option("mode", "read").disabled = true;
  byId("problem").hidden = true;
  byId("labels").replaceChildren(...glossary(card.labels));
  showJson(null);
  setMode("edit");
  say("Nothing read yet", `The model knows ${counted(card.labels.length, "label")} and ${counted(card.types.length, "span type")}`);
}

function fill(content) {
  title.value = content.title;
  text.value = content.text;
  onInput();
}

function onInput() {
  const { length } = text.value;
  byId("count").textContent = length ? counted(length, "character") : "";
  byId("share").disabled = length === 0;
}

function showMinimum() {
  minimum.disabled = !ownMinimum.checked;
  byId("minimum-shown").textContent = ownMinimum.checked ? Number(minimum.value).toFixed(2) : "model’s thresholds";
}

function onMinimum() {
  showMinimum();
  clearTimeout(pause);
  // A text that is still being edited is not sent behind its writer's back.
  if (byId("form").hidden) pause = setTimeout(analyze, PAUSE_BEFORE_ASKING_AGAIN_MS);
}

function onMode(mode) {
  // Reading what was changed since means reading it anew.
  if (mode === "read" && JSON.stringify(filledIn()) !== JSON.stringify(read)) analyze();
  else setMode(mode);
}

function onClear() {
  stop();
  fill({ title: "", text: "" });
  forget();
  text.focus();
}

async function onShare(event) {
  const button = event.currentTarget;
  try {
    await copyBy(button, await linkTo(filledIn()));
  } catch (error) {
    say("No link", error.message);
  }
}

/** Copy, and say on the button for a moment how it went. */
async function copyBy(button, words) {
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = (await copy(words)) ? "Copied" : "Not allowed";
  setTimeout(() => (button.textContent = label), COPIED_SHOWN_MS);
}

function exampleItem(example) {
  const parts = [element("strong", {}, example.name), element("span", {}, example.note)];
  const button = element("button", { type: "button" }, ...parts);
  button.addEventListener("click", () => {
    fill(example);
    analyze();
  });
  return element("li", {}, button);
}

/** Read what the address holds, if it holds a text. */
async function openLink() {
  try {
    const content = await contentOf(location.hash);
    if (!content) return;
    ownMinimum.checked = content.minScore !== null;
    if (content.minScore !== null) minimum.value = String(content.minScore);
    showMinimum();
    fill(content);
  } catch (error) {
    refuse(new Refusal("Link not read", "link", error.message));
    return;
  }
  await analyze();
}

function listen() {
  followTheme();
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    analyze();
  });
  for (const field of [title, text]) {
    field.addEventListener("input", onInput);
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      analyze();
    });
  }
  for (const field of [minimum, ownMinimum]) field.addEventListener("input", onMinimum);
  byId("clear").addEventListener("click", onClear);
  byId("mode").addEventListener("change", (event) => onMode(event.target.value));
  byId("panel").addEventListener("change", (event) => setPanel(event.target.value));
  byId("copy-json").addEventListener("click", (event) => copyBy(event.currentTarget, byId("json").textContent));
  byId("share").addEventListener("click", onShare);
  byId("key-form").addEventListener("submit", onKey);
  byId("forget-key").addEventListener("click", onForgetKey);
  addEventListener("hashchange", openLink);
}

/** Learn what the model knows, then read what the address holds. */
async function load() {
  try {
    const [model, examples] = await Promise.all([ask("v1/model"), ask("page/examples.json")]);
    card = model;
    byId("model").replaceChildren(...modelLine(model));
    byId("examples").replaceChildren(...examples.map(exampleItem));
    forget();
    byId("key-form").hidden = !key();
  } catch (error) {
    refuse(error);
    return;
  }
  await openLink();
}

function start() {
  listen();
  showMinimum();
  onInput();
  load();
}

start();
