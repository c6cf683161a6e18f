// Asking the server: an answer, or a refusal in the server's own words.

import { key } from "./key.js";

/** What stands between the reader and an answer; `code` and `body` are the server's where it gave them. */
export class Refusal extends Error {
  constructor(title, code, detail, body = null) {
    super(detail);
    Object.assign(this, { title, code, body });
  }
}

/** The JSON behind `path`. Throws a Refusal, or an AbortError where `init.signal` was raised. */
export async function ask(path, init) {
  let response, body;
  try {
    response = await fetch(path, { ...init, headers: { ...init?.headers, ...(key() && { "X-API-Key": key() }) } });
    body = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("No answer", "network", "The server did not answer; check that it still runs.");
  }
  const parsed = parse(body);
  if (response.ok && parsed) return parsed;
  const wait = response.headers.get("Retry-After");
  const detail = (parsed?.detail ?? body) + (wait ? ` Retry after ${wait} s.` : "");
  throw new Refusal(parsed?.title ?? (response.statusText || "Unexpected answer"), response.status, detail, parsed);
}

/** Null for what is no JSON: something between here and the server answered, and its words are shown. */
function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}
