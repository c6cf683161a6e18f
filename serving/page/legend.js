// The legend: a button a type with its count. It knows which types are hidden, also from text to text.

import { byId, element } from "./dom.js";
import { byKind, typed } from "./types.js";

const hidden = new Set();

/**
 * Show the legend of the model's `types`, [{name, definition}], with the counts of these entities; types
 * without a span stay, for their definitions. `onChange` gets the set of hidden types, now and at each change.
 */
export function showLegend(types, entities, onChange) {
  const names = types.map((type) => type.name);
  const definitions = new Map(types.map((type) => [type.name, type.definition]));
  const counts = new Map(names.map((name) => [name, 0]));
  for (const { type } of entities) counts.set(type, (counts.get(type) ?? 0) + 1);

  const buttons = new Map();
  const sweep = element("button", { type: "button", className: "sweep" });
  const update = () => {
    for (const [type, button] of buttons) button.setAttribute("aria-pressed", String(!hidden.has(type)));
    sweep.textContent = hidden.size ? "Show all" : "Hide all";
    onChange(hidden);
  };
  for (const [type, count] of counts) {
    const button = typed("button", type, names, { type: "button", title: definitions.get(type) ?? "" },
      element("span", { className: "swatch", "aria-hidden": "true" }), type,
      element("span", { className: "number" }, String(count)));
    button.classList.toggle("empty", count === 0);
    button.addEventListener("click", () => {
      if (!hidden.delete(type)) hidden.add(type);
      update();
    });
    buttons.set(type, button);
  }
  sweep.addEventListener("click", () => {
    if (hidden.size) hidden.clear();
    else for (const type of counts.keys()) hidden.add(type);
    update();
  });

  const kinds = byKind([...counts.keys()]).map(([kind, held]) =>
    element("div", { className: "kind", role: "group", "aria-label": kind },
      element("span", { className: "kind-name", "aria-hidden": "true" }, kind),
      ...held.map((type) => buttons.get(type))));
  byId("legend").replaceChildren(...kinds, sweep);
  update();
}
