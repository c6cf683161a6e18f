// What stands around the text: labels with their evidence, what there is to find, the model, errors.

import { element } from "./dom.js";

const AXES = ["typology", "event", "relevance"];
const plain = (name) => name.replaceAll("_", " ");
const headline = (name) => name.charAt(0).toUpperCase() + name.slice(1);

/** [[axis, [label, …]], …], ours in their order, others behind them. */
function byAxis(labels) {
  const axes = [...new Set([...AXES, ...labels.map((label) => label.axis)])];
  return axes.map((axis) => [axis, labels.filter((label) => label.axis === axis)]).filter(([, held]) => held.length);
}

/** Every label that the model knows, with its definition: what there is to find. */
export function glossary(labels) {
  return byAxis(labels).map(([axis, known]) =>
    element("section", { className: "axis" }, element("h3", {}, headline(axis)),
      element("dl", { className: "glossary" },
        ...known.flatMap((label) => [element("dt", {}, plain(label.name)), element("dd", {}, label.definition)]))));
}

/**
 * The labels of one result. `known` are the model's, with thresholds; `quote(sentence)` gives its text;
 * `on.enter(sentences)`, the one pointed at first, and `on.leave()` follow pointer and focus,
 * `on.go(sentence)` a click.
 */
export function labelPanel(labels, known, minScore, quote, on) {
  if (!labels.length) {
    const bar = minScore === null ? "its threshold" : minScore.toFixed(2);
    return [element("p", { className: "none" }, `No label reaches ${bar}.`)];
  }
  const knownByName = new Map(known.map((label) => [label.name, label]));
  return byAxis(labels).map(([axis, held]) =>
    element("section", { className: "axis" }, element("h3", {}, headline(axis)),
      element("ul", { className: "labels" },
        ...held.map((label) => labelItem(label, knownByName.get(label.label), minScore, quote, on)))));
}

function labelItem(label, known, minScore, quote, on) {
  const evidence = label.evidence ?? [];
  const threshold = minScore ?? known?.threshold;
  const bar = element("span", { className: "bar", "aria-hidden": "true", style: { "--score": label.score } });
  const over = threshold === undefined ? "" : `over ${threshold.toFixed(2)}`;
  if (over) bar.append(element("span", { className: "tick", style: { "--at": threshold } }));
  const head = element("button", { type: "button", className: "label-head" },
    element("span", { className: "name" }, plain(label.label)),
    element("span", { className: "over" }, over),
    element("span", { className: "score" }, label.score.toFixed(3)), bar);
  head.addEventListener("click", () => evidence.length && on.go(evidence[0]));
  const item = element("li", { dataset: { label: label.label } }, head,
    element("p", { className: "definition" }, known?.definition ?? ""));
  if (evidence.length) item.append(element("ol", { className: "evidence" }, ...evidence.map((s, n) => quoteItem(s, n, quote(s), on))));
  const enter = (event) => {
    const pointed = evidence[event.target.closest(".quote")?.dataset.rank];
    on.enter(pointed ? [pointed, ...evidence.filter((other) => other !== pointed)] : evidence);
  };
  for (const name of ["pointerover", "focusin"]) item.addEventListener(name, enter);
  for (const name of ["pointerleave", "focusout"]) {
    item.addEventListener(name, () => !item.matches(":hover, :focus-within") && on.leave());
  }
  return item;
}

function quoteItem(sentence, rank, text, on) {
  const share = `${Math.round(sentence.score * 100)}%`;
  const button = element("button", { type: "button", className: "quote", dataset: { rank }, "aria-label": `${share} of the evidence: ${text}` },
    element("span", { className: "share" }, share), element("span", { className: "words", dir: "auto" }, text));
  button.addEventListener("click", () => on.go(sentence));
  return element("li", {}, button);
}

/** Name, version and hash of the model that answered. */
export function modelLine({ name, version, sha256 }) {
  return [element("strong", {}, name), ` version ${version} · `,
    element("code", { title: `sha256 of its manifest: ${sha256}` }, `sha256 ${sha256.slice(0, 12)}`)];
}

/** An error as the server gave it. */
export function problem({ title, code, detail }) {
  return [element("strong", {}, title), element("code", {}, String(code)), element("p", {}, detail)];
}
