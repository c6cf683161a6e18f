// Span types by kind. A model of other types works too: what is not named here stands under "Other".

import { element } from "./dom.js";

const KINDS = {
  Actors: ["PERSON", "ORG", "NORP"],
  Places: ["LOCATION", "FACILITY"],
  Legal: ["LEGAL", "MEASURE"],
  Things: ["VESSEL", "GOODS", "WEAPON"],
  Values: ["MONEY", "QUANTITY", "DATE"],
};
const KNOWN = new Set(Object.values(KINDS).flat());
// Far from its neighbours in number, and in turn far from one another.
const GOLDEN_ANGLE = 137.5;

/** [[kind, [type, …]], …] of the model's types, kinds without any left out. */
export function byKind(names) {
  const rows = Object.entries(KINDS).map(([kind, types]) => [kind, types.filter((type) => names.includes(type))]);
  rows.push(["Other", names.filter((type) => !KNOWN.has(type))]);
  return rows.filter(([, types]) => types.length);
}

/** An element in the colour of its type: page.css knows ours, others get a hue by their place. */
export function typed(tag, type, names, properties, ...children) {
  const made = element(tag, { ...properties, dataset: { ...properties?.dataset, type } }, ...children);
  made.classList.add("typed");
  if (!KNOWN.has(type)) made.style.setProperty("--hue", String((names.indexOf(type) * GOLDEN_ANGLE) % 360));
  return made;
}
