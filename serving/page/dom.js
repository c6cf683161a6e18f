// The only way that this page makes elements: text goes in as text, never as markup.

/**
 * An element with properties set and children appended; strings become text nodes.
 * `dataset` and `style` take objects, names with a dash are attributes.
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "dataset") Object.assign(made.dataset, value);
    else if (name === "style") for (const [key, set] of Object.entries(value)) made.style.setProperty(key, set);
    else if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** The element of that id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Bring into view, without movement for those who asked for less of it. */
export function scrollTo(target) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  target.scrollIntoView({ block: "center", behavior: still ? "auto" : "smooth" });
}
