// Which of its parts the page shows, and its line of status.

import { byId, element } from "./dom.js";

/** One radio button of a group. */
export const option = (name, value) => document.querySelector(`[name=${name}][value=${value}]`);

/** Replace the status, a line an argument; screen readers speak it. */
export function say(...lines) {
  byId("status").replaceChildren(...lines.map((line) => element("span", {}, line)));
}

/** "edit" shows the form, "read" the marked text. */
export function setMode(mode) {
  option("mode", mode).checked = true;
  byId("form").hidden = mode === "read";
  byId("reading").hidden = mode !== "read";
}

/** From the form to the text: the focus would be lost with the form, and on a phone the place. */
export function turnToText() {
  const fromForm = byId("form").contains(document.activeElement);
  const turns = !byId("form").hidden;
  setMode("read");
  if (fromForm) byId("document").focus({ preventScroll: true });
  if (turns) byId("mode").scrollIntoView({ block: "nearest" });
}

/** "labels" or "json" beside the text. */
export function setPanel(panel) {
  option("panel", panel).checked = true;
  byId("labels").hidden = panel !== "labels";
  byId("json").hidden = panel !== "json";
}

/** The answer as it came, beside the text; null takes it away. */
export function showJson(answer) {
  byId("json").textContent = answer ? JSON.stringify(answer, null, 2) : "";
  byId("copy-json").disabled = option("panel", "json").disabled = !answer;
  if (!answer) setPanel("labels");
}

/** Follow the switch of colours; the choice is kept where the browser allows it. */
export function followTheme() {
  const root = document.documentElement;
  option("theme", root.dataset.theme ?? "auto").checked = true;
  byId("theme").addEventListener("change", ({ target }) => {
    if (target.value === "auto") delete root.dataset.theme;
    else root.dataset.theme = target.value;
    try {
      localStorage.setItem("embargo-theme", target.value);
    } catch {
      // Storage can be forbidden; the choice then holds until the page is closed.
    }
  });
}
