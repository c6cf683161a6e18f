// The caller's API key, for servers that ask for one; it leaves the browser in a header alone.

const NAME = "embargo-key";
let kept = "";

/** The key that was given; "" without one. */
export function key() {
  return kept || stored();
}

/** Keep a key until the tab is closed; "" forgets it. */
export function keep(given) {
  kept = given;
  try {
    if (given) sessionStorage.setItem(NAME, given);
    else sessionStorage.removeItem(NAME);
  } catch {
    // Storage can be forbidden; the key then holds until the page is left.
  }
}

function stored() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}
