// The page: a form, one request at a time to POST v1/analyze, and what it answered.

import { byId, element } from "./dom.js";
import { glossary, labelPanel, legend, modelLine, problem } from "./panels.js";
import { goToSentence, markSentences, showDocument, toggleType } from "./reading.js";
import { contentOf, copy, linkTo } from "./share.js";

const PAUSE_BEFORE_ASKING_AGAIN_MS = 200;

const [title, text, minimum, ownMinimum] = ["title", "text", "minimum", "own-minimum"].map(byId);
const number = new Intl.NumberFormat("en");
const hidden = new Set();

let card = { types: [], labels: [] };
let read = null; // The document that is shown, as it was sent.
let asking = new AbortController();
let pause = 0;

const minScore = () => (ownMinimum.checked ? Number(minimum.value) : null);

/** Something that stands between the reader and an answer; `code` is the server's where it gave one. */
class Refusal extends Error {
  constructor(title, code, detail, body = null) {
    super(detail);
    Object.assign(this, { title, code, body });
  }
}

async function ask(path, init) {
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("No answer", "network", "The server did not answer; check that it still runs.");
  }
  const body = await response.text();
  let parsed = null;
  try {
    parsed = JSON.parse(body);
  } catch {
    // Something between here and the server answered; its words are shown.
  }
  if (response.ok && parsed) return parsed;
  const wait = response.headers.get("Retry-After");
  const detail = (parsed?.detail ?? body) + (wait ? ` Retry after ${wait} s.` : "");
  throw new Refusal(parsed?.title ?? response.statusText, response.status, detail, parsed);
}

async function analyze() {
  clearTimeout(pause);
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const sent = { title: title.value, text: text.value };
  const request = {
    documents: [{ text: sent.text, title: sent.title || null }],
    options: { evidence: true, offset_unit: "utf16", min_score: minScore() },
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
    if (error.name === "AbortError") return;
    refuse(error);
  } finally {
    if (!signal.aborted) document.body.removeAttribute("aria-busy");
  }
}

function show(sent, answer, milliseconds) {
  const [result] = answer.results;
  byId("model").replaceChildren(...modelLine(answer.model));
  if (result.error) throw new Refusal("The document was not read", result.error.code, result.error.message, answer);
  byId("problem").hidden = true;
  read = sent;
  byId("legend").replaceChildren(...legend(card.types, result.entities, hidden, onToggle));
  showDocument(sent, result, card.types);
  for (const type of hidden) toggleType(type, false);
  const quote = (sentence) => sent[sentence.field].slice(sentence.start, sentence.end);
  byId("labels").replaceChildren(
    ...labelPanel(result.labels, card.labels, minScore(), quote, { enter: markSentences, leave: () => markSentences(), go: onGo }),
  );
  showJson(answer);
  turnToText();
  const { tokens, windows, truncated } = result.coverage;
  const counted = (count, noun) => `${number.format(count)} ${noun}${count === 1 ? "" : "s"}`;
  say(
    `${counted(result.entities.length, "span")}, ${counted(result.labels.length, "label")}, ${number.format(Math.round(milliseconds))} ms`,
    `${truncated ? "Read only in part" : "Read whole"}: ${counted(tokens, "token")} in ${counted(windows, "window")}`,
  );
}

function refuse(error) {
  // An error without a code is our own fault: the console keeps its trace.
  if (!(error instanceof Refusal)) console.error(error);
  const { title: name = "This page failed", code = "page", message: detail, body = null } = error;
  byId("problem").replaceChildren(...problem({ title: name, code, detail }));
  byId("problem").hidden = false;
  forget();
  if (body) showJson(body);
  say("No result");
}

/** Back to the form, without a result. */
function forget() {
  read = null;
  showJson(null);
  byId("labels").replaceChildren(...glossary(card.labels));
  setMode("edit");
}

/** The answer as it came, beside the text; none takes the panel away. */
function showJson(answer) {
  byId("json").textContent = answer ? JSON.stringify(answer, null, 2) : "";
  byId("copy-json").disabled = option("panel", "json").disabled = !answer;
  if (!answer) setPanel("labels");
}

const option = (name, value) => document.querySelector(`[name=${name}][value=${value}]`);

function setPanel(panel) {
  option("panel", panel).checked = true;
  byId("labels").hidden = panel !== "labels";
  byId("json").hidden = panel !== "json";
}

function setMode(mode) {
  option("mode", "read").disabled = read === null;
  option("mode", mode).checked = true;
  byId("form").hidden = mode === "read";
  byId("reading").hidden = mode !== "read";
}

/** From the form to the text: the focus would be lost with the form, and on a phone the place. */
function turnToText() {
  const fromForm = byId("form").contains(document.activeElement);
  const turns = !byId("form").hidden;
  setMode("read");
  if (fromForm) byId("document").focus({ preventScroll: true });
  if (turns) byId("mode").scrollIntoView({ block: "nearest" });
}

function onMode(mode) {
  // Reading a text that was changed since means reading it anew.
  if (mode === "read" && (title.value !== read.title || text.value !== read.text)) analyze();
  else setMode(mode);
}

function onGo(sentence) {
  setMode("read");
  goToSentence(sentence);
}

function onToggle(type, visible) {
  if (visible) hidden.delete(type);
  else hidden.add(type);
  toggleType(type, visible);
}

function say(...lines) {
  byId("status").replaceChildren(...lines.map((line) => element("span", {}, line)));
}

function fill(content) {
  title.value = content.title;
  text.value = content.text;
  onInput();
}

function onInput() {
  const length = text.value.length;
  byId("count").textContent = length ? `${number.format(length)} characters` : "";
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
  if (read && byId("form").hidden) pause = setTimeout(analyze, PAUSE_BEFORE_ASKING_AGAIN_MS);
}

async function copyWith(button, words) {
  const done = (await copy(words)) ? "Copied" : "Not allowed";
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = done;
  setTimeout(() => (button.textContent = label), 1500);
}

function listExamples(examples) {
  byId("examples").replaceChildren(
    ...examples.map((example) => {
      const button = element("button", { type: "button" }, element("strong", {}, example.name), element("span", {}, example.note));
      button.addEventListener("click", () => {
        fill(example);
        analyze();
      });
      return element("li", {}, button);
    }),
  );
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("embargo-theme", theme);
  } catch {
    // Storage can be forbidden; the choice then holds until the page is closed.
  }
}

async function openLink() {
  const content = await contentOf(location.hash).catch((error) => {
    throw new Refusal("Link not read", "link", error.message);
  });
  if (!content) return;
  ownMinimum.checked = content.minScore !== null;
  if (content.minScore !== null) minimum.value = String(content.minScore);
  showMinimum();
  fill(content);
  await analyze();
}

function listen() {
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    analyze();
  });
  byId("form").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) analyze();
  });
  for (const field of [title, text]) field.addEventListener("input", onInput);
  byId("clear").addEventListener("click", () => {
    fill({ title: "", text: "" });
    byId("problem").hidden = true;
    forget();
    say();
    text.focus();
  });
  for (const field of [minimum, ownMinimum]) field.addEventListener("input", onMinimum);
  byId("mode").addEventListener("change", (event) => onMode(event.target.value));
  byId("panel").addEventListener("change", (event) => setPanel(event.target.value));
  byId("theme").addEventListener("change", (event) => setTheme(event.target.value));
  byId("copy-json").addEventListener("click", (event) => copyWith(event.currentTarget, byId("json").textContent));
  byId("share").addEventListener("click", async (event) => {
    const button = event.currentTarget;
    try {
      await copyWith(button, await linkTo({ title: title.value, text: text.value, minScore: minScore() }));
    } catch (error) {
      say(error.message);
    }
  });
  addEventListener("hashchange", () => openLink().catch(refuse));
}

async function start() {
  const theme = document.documentElement.dataset.theme ?? "auto";
  option("theme", theme).checked = true;
  listen();
  showMinimum();
  onInput();
  try {
    const [model, examples] = await Promise.all([ask("v1/model"), ask("page/examples.json")]);
    card = model;
    byId("model").replaceChildren(...modelLine(model));
    byId("labels").replaceChildren(...glossary(model.labels));
    listExamples(examples);
    await openLink();
  } catch (error) {
    refuse(error);
  }
}

start();
