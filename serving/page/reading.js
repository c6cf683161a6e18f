// The text as read: spans marked by type, evidence sentences ready to be shown, a detail for each span.

import { byId, element, scrollTo } from "./dom.js";
import { typed } from "./types.js";

const detail = byId("detail");
const page = byId("document");

let shown = { entities: [], types: [], definitions: new Map() };
let sentencePieces = new Map();

/** Names a sentence: two labels often rest on the same one. */
export const sentenceKey = (sentence) => `${sentence.field}:${sentence.start}:${sentence.end}`;

/**
 * Show title and text with the spans and the evidence of `result`.
 * Offsets are UTF-16 units, those of JavaScript strings. `types` are the model's, [{name, definition}].
 */
export function showDocument({ title, text }, result, types) {
  const sentences = new Map();
  for (const label of result.labels) for (const s of label.evidence ?? []) sentences.set(sentenceKey(s), s);
  shown = {
    entities: result.entities,
    types: types.map((type) => type.name),
    definitions: new Map(types.map((type) => [type.name, type.definition])),
  };
  sentencePieces = new Map([...sentences.keys()].map((key) => [key, []]));
  hideDetail();
  for (const [field, source] of [["title", title], ["text", text]]) {
    const place = byId(`${field}-read`);
    place.hidden = !source;
    place.replaceChildren(...cut(source, field, [...sentences.values()]));
  }
  moveStop(spans()[0]);
}

/**
 * The nodes of one field: the source cut at every edge of a span and of a sentence.
 * Spans do not overlap each other, nor do sentences, but the two may cross.
 */
function cut(source, field, allSentences) {
  const inField = (item) => item.field === field;
  const byStart = (a, b) => a.start - b.start;
  const entities = shown.entities.map((entity, index) => ({ ...entity, index })).filter(inField).sort(byStart);
  const sentences = allSentences.filter(inField).sort(byStart);
  const edges = new Set([0, source.length]);
  for (const item of [...entities, ...sentences]) edges.add(item.start).add(item.end);
  const sorted = [...edges].sort((a, b) => a - b);

  const nodes = [];
  let [entity, sentence] = [entities.shift(), sentences.shift()];
  let mark = null;
  for (let n = 0; n + 1 < sorted.length; n++) {
    const [start, end] = [sorted[n], sorted[n + 1]];
    if (entity && start >= entity.end) [entity, mark] = [entities.shift(), null];
    if (sentence && start >= sentence.end) sentence = sentences.shift();
    let piece = document.createTextNode(source.slice(start, end));
    if (sentence && start >= sentence.start) {
      piece = element("span", { className: "sentence" }, piece);
      sentencePieces.get(sentenceKey(sentence)).push(piece);
    }
    if (entity && start >= entity.start) {
      if (mark) mark.append(piece);
      else nodes.push((mark = spanMark(entity, piece)));
    } else nodes.push(piece);
  }
  return nodes;
}

function spanMark(entity, piece) {
  const properties = { tabIndex: -1, dataset: { index: entity.index }, "aria-describedby": "detail" };
  return typed("mark", entity.type, shown.types, properties, piece);
}

/** Take the marks of these types out of the text, show all others; the text itself stays. */
export function hideTypes(hidden) {
  for (const mark of page.querySelectorAll("mark")) mark.classList.toggle("off", hidden.has(mark.dataset.type));
  moveStop(spans()[0]);
}

/** Mark these sentences, the first the strongest; none clears. */
export function markSentences(sentences = []) {
  for (const pieces of sentencePieces.values()) for (const piece of pieces) piece.classList.remove("evident", "first");
  sentences.forEach((sentence, rank) => {
    for (const piece of sentencePieces.get(sentenceKey(sentence)) ?? []) {
      piece.classList.add("evident");
      piece.classList.toggle("first", rank === 0);
    }
  });
}

/** Bring a sentence into view. */
export function goToSentence(sentence) {
  const piece = sentencePieces.get(sentenceKey(sentence))?.[0];
  if (piece) scrollTo(piece);
}

const spans = () => [...page.querySelectorAll("mark:not(.off)")];

/** One span at a time is a tab stop: the arrows reach the others, Tab leaves the text. */
function moveStop(mark) {
  for (const other of page.querySelectorAll("mark[tabindex='0']")) other.tabIndex = -1;
  if (mark) mark.tabIndex = 0;
}

page.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return hideDetail();
  const marks = spans();
  const at = marks.indexOf(event.target);
  if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: marks.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  marks[to]?.focus();
});
page.addEventListener("focusin", (event) => {
  if (!event.target.matches("mark:not(.off)")) return;
  moveStop(event.target);
  showDetail(event.target);
});
page.addEventListener("focusout", hideDetail);
page.addEventListener("pointerover", (event) => {
  const mark = event.target.closest("mark:not(.off)");
  if (mark) showDetail(mark);
});
page.addEventListener("pointerout", (event) => {
  if (event.target.closest("mark") && !detail.contains(event.relatedTarget)) restoreDetail();
});
detail.addEventListener("pointerleave", restoreDetail);
addEventListener("keydown", (event) => event.key === "Escape" && hideDetail());
addEventListener("resize", hideDetail);

/** The pointer left: the detail of the span in focus comes back, if there is one. */
function restoreDetail() {
  const focused = document.activeElement;
  if (focused?.matches("mark:not(.off)")) showDetail(focused);
  else hideDetail();
}

function hideDetail() {
  detail.hidden = true;
}

function showDetail(mark) {
  const entity = shown.entities[Number(mark.dataset.index)];
  const rows = [
    ["Score", entity.score.toFixed(3)],
    ["Offsets", `${entity.field}[${entity.start}:${entity.end}] in UTF-16 units`],
  ];
  detail.replaceChildren(
    typed("p", entity.type, shown.types, { className: "detail-type" }, entity.type),
    element("p", { className: "detail-definition" }, shown.definitions.get(entity.type) ?? ""),
    element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
  );
  detail.hidden = false;
  place(mark);
}

/** Under the first line of the span, or above it where there is no room; never beyond the page's edge. */
function place(mark) {
  const line = mark.getClientRects()[0];
  const [width, height, gap] = [detail.offsetWidth, detail.offsetHeight, 6];
  const left = Math.max(gap, Math.min(line.left, document.documentElement.clientWidth - width - gap));
  const below = line.bottom + gap + height <= innerHeight;
  const top = below ? line.bottom + gap : Math.max(gap, line.top - gap - height);
  detail.style.setProperty("left", `${left + scrollX}px`);
  detail.style.setProperty("top", `${top + scrollY}px`);
}
