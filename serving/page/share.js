// A link that holds the text itself: its fragment never leaves the browser.

// Longer links are cut by chat and mail programs.
const LONGEST_LINK = 30_000;
// A link is somebody else's input: what unpacks to more is refused before it fills the memory.
const LONGEST_CONTENT = 4_000_000;
const PREFIX = "#d=";

/** The address of this page with `content` in its fragment. Throws a RangeError when it is too long. */
export async function linkTo(content) {
  const packed = new Blob([JSON.stringify(content)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = await collect(packed, Infinity);
  const link = location.href.split("#")[0] + PREFIX + toBase64(bytes);
  if (link.length > LONGEST_LINK) {
    throw new RangeError(`The link would have ${link.length} characters, at most ${LONGEST_LINK} are useful; share the text as a file.`);
  }
  return link;
}

/** What a link holds: {title, text, minScore}; null without any. Throws an Error for a damaged link. */
export async function contentOf(fragment) {
  if (!fragment.startsWith(PREFIX)) return null;
  try {
    const packed = new Blob([fromBase64(fragment.slice(PREFIX.length))]).stream();
    const bytes = await collect(packed.pipeThrough(new DecompressionStream("deflate-raw")), LONGEST_CONTENT);
    const { title, text, minScore } = JSON.parse(new TextDecoder().decode(bytes));
    return { title: String(title ?? ""), text: String(text ?? ""), minScore: Number.isFinite(minScore) ? minScore : null };
  } catch (error) {
    throw new Error("The link is damaged or too long; ask for a new one.", { cause: error });
  }
}

/** Copy to the clipboard, over plain HTTP too. Returns whether it worked. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Browsers offer the clipboard on https and localhost alone; this older way works elsewhere.
    const area = document.createElement("textarea");
    const focused = document.activeElement;
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return copied;
  }
}

async function collect(stream, limit) {
  const chunks = [];
  let size = 0;
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    size += part.value.length;
    if (size > limit) {
      await reader.cancel();
      throw new RangeError("too long");
    }
    chunks.push(part.value);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

function toBase64(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function fromBase64(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}
