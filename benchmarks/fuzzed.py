"""Requests as no sane client sends them, each by its number: the same seed and number, the same bytes."""

import gzip
import json
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

JSON, NDJSON = "application/json", "application/x-ndjson"
_WORDS = ("sanctions", "oil", "a", "tanker", "Vladivostok", "2397", "Monday", "the", "bank", "of", "Russia")
_ODD_TEXT = (
    "", " ", "\0", "\ufeff", "👷🏽‍♀️", "é", "e\u0301", "\u202e", "\u2028", "\x7f", "\r\n", "\U0010ffff",
    "ﷺ", "0" * 4000, "\u0300" * 300, "a" * 3000, "<script>", "\\", '"', "%s{0}", "\ud800", "\udfff\ud800",
)  # fmt: skip
_RAW_VALUES = (
    b"null", b"true", b"0", b"-0", b"1.5", b"1e400", b"-1e400", b"9" * 400, b"18446744073709551616",
    b"NaN", b"Infinity", b"0x10", b"01", b"[]", b"{}", b'[[[[{"a":[]}]]]]', b"[" * 2000 + b"]" * 2000,
    b'{"a":' * 1500 + b"1" + b"}" * 1500,
    b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b"'a'", b'{"a":1,"a":2}', b"/**/1", b"",
)  # fmt: skip
_POSTED = ("/v1/analyze", "/hf/token-classification", "/hf/text-classification", "/presidio/analyze")
_PATHS = (
    *_POSTED, "/", "/healthz", "/readyz", "/metrics", "/v1/model", "/docs", "/openapi.json",
    "/presidio/health", "/presidio/recognizers", "/page/page.js", "/page/../app.py", "/page/%2e%2e/app.py",
    "/page/%00", "/none", "//", "/v1/analyze/", "/%ff", "/%", "/" + "a" * 5000, "/page/" + "a" * 300,
    "/static-offline-docs/%2e%2e/core.py",
)  # fmt: skip
_NAMES = (
    "Content-Type", "Accept", "Accept-Encoding", "X-Request-ID", "X-API-Key", "Authorization", "Origin",
    "Cookie", "Expect", "Range", "If-None-Match", "If-Modified-Since", "X-Forwarded-For",
    "X-Forwarded-Proto", "Content-Encoding", "Upgrade", "Te", "Host", "Forwarded",
)  # fmt: skip
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND")
_OPTIONS = ("labels", "entities", "evidence", "min_score", "offset_unit", "unknown")


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """A request as bytes, and what may be expected of its answer."""

    kind: str
    raw: bytes
    whole: bool = True
    """Sound HTTP, whatever its content: it must be answered. Else the connection may also be closed."""
    has_body: bool = True
    """False for HEAD, whose answer has no body."""
    leaves: bool = False
    """The caller does not wait for the answer."""


def fuzzed(seed: int, number: int) -> Fuzzed:
    """Request `number`."""
    chance = random.Random(f"{seed}:{number}")
    kinds = [kind for kind, _ in _KINDS]
    (kind,) = chance.choices(kinds, [weight for _, weight in _KINDS])
    return kind(chance)


def _sound(chance: random.Random) -> Fuzzed:
    path, content = _request(chance)
    return Fuzzed("sound", _http(path, content))


def _values(chance: random.Random) -> Fuzzed:
    """One value, somewhere, is another."""
    path, content = _request(chance)
    at = _value_at(chance, content)
    return Fuzzed("values", _http(path, content[: at[0]] + chance.choice(_RAW_VALUES) + content[at[1] :]))


def _broken(chance: random.Random) -> Fuzzed:
    path, content = _request(chance)
    return Fuzzed("broken", _http(path, _damaged(chance, content)))


def _noise(chance: random.Random) -> Fuzzed:
    content = chance.choice((chance.randbytes(chance.randrange(300)), *_RAW_VALUES))
    return Fuzzed("noise", _http(chance.choice(_POSTED), content))


def _lines(chance: random.Random) -> Fuzzed:
    rows = [_dumped(_document(chance)) for _ in range(chance.randrange(6))]
    content = b"\n".join(
        chance.choice((row, row, _damaged(chance, row), chance.choice(_RAW_VALUES))) for row in rows
    )
    return Fuzzed("lines", _http("/v1/analyze" + _query(chance), content, {"Content-Type": NDJSON}))


def _packed(chance: random.Random) -> Fuzzed:
    path, content = _request(chance)
    content = gzip.compress(content, mtime=0)
    change = chance.randrange(6)
    if change == 1:
        content = _damaged(chance, content)
    elif change == 2:
        content = gzip.compress(content, mtime=0)
    elif change == 3:
        content = gzip.compress(b" " * 3_000_000, 1, mtime=0)
    encoding = chance.choice(("gzip", "gzip", "gzip", "GZIP ", "br", "gzip, gzip", "identity", ""))
    content_type = chance.choice((JSON, JSON, NDJSON))
    path = path if content_type == JSON else "/v1/analyze"
    return Fuzzed(
        "packed", _http(path, content, {"Content-Type": content_type, "Content-Encoding": encoding})
    )


def _headers(chance: random.Random) -> Fuzzed:
    path, content = _request(chance)
    value = chance.choice(
        (
            "",
            "a",
            "é".encode().decode("latin-1"),
            "x" * 3000,
            "0",
            "-1",
            "*/*;q=9",
            "gzip;q=nan",
            ",,,",
            '"',
            "\t a",
        )
    )
    name = chance.choice((*_NAMES, "X-" + "a" * 500))
    further = {name: value}
    if chance.random() < 0.1:
        further |= {"Connection": "Upgrade", "Upgrade": chance.choice(("websocket", "h2c", "x"))}
    if chance.random() < 0.1:
        further |= {"Expect": "100-continue"}
    return Fuzzed("headers", _http(path, content, further))


def _paths(chance: random.Random) -> Fuzzed:
    method = chance.choice(_METHODS)
    raw = _http(chance.choice(_PATHS) + _query(chance), b"", method=method)
    return Fuzzed("paths", raw, has_body=method != "HEAD")


def _chunked(chance: random.Random) -> Fuzzed:
    path, content = _request(chance)
    cuts = sorted(chance.randrange(len(content) + 1) for _ in range(chance.randrange(4)))
    parts = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True) if a < b]
    whole = chance.random() < 0.7
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    if not whole:
        body = _damaged(chance, body)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Fuzzed("chunked", head.encode() + body, whole=whole)


def _framing(chance: random.Random) -> Fuzzed:
    """What is no HTTP any more."""
    path, content = _request(chance)
    raw = _http(path, content)
    head, _, body = raw.partition(b"\r\n\r\n")
    return Fuzzed("framing", _damaged(chance, head) + b"\r\n\r\n" + body, whole=False)


def _too_short(chance: random.Random) -> Fuzzed:
    """Less comes than the head says: 408, after some patience."""
    path, content = _request(chance)
    return Fuzzed("too short", _http(path, content, {"Content-Length": str(len(content) + 10)}))


def _leaving(chance: random.Random) -> Fuzzed:
    path, content = _request(chance)
    content_type = chance.choice((JSON, NDJSON))
    path = path if content_type == JSON else "/v1/analyze"
    raw = _http(path, content, {"Content-Type": content_type, "Content-Length": str(len(content) + 5)})
    return Fuzzed("leaving", raw[: chance.randrange(1, len(raw))], whole=False, leaves=True)


_KINDS: Sequence[tuple[Callable[[random.Random], Fuzzed], float]] = (
    (_sound, 10), (_values, 20), (_broken, 20), (_noise, 8), (_lines, 12), (_packed, 8), (_headers, 8),
    (_paths, 8), (_chunked, 4), (_framing, 3), (_too_short, 0.2), (_leaving, 3),
)  # fmt: skip


def _http(path: str, content: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
    named = {"Host": "x", "Content-Type": JSON, "Content-Length": str(len(content)), **(headers or {})}
    rows = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*rows, "", ""]).encode("latin-1") + content


def _request(chance: random.Random) -> tuple[str, bytes]:
    """A sound request in one of the shapes."""
    path = chance.choice(("/v1/analyze", "/v1/analyze", *_POSTED))
    if path == "/v1/analyze":
        shape: dict[str, Any] = {"documents": [_document(chance) for _ in range(chance.randrange(4))]}
        if chance.random() < 0.5:
            shape["options"] = _options(chance)
    elif path == "/presidio/analyze":
        shape = {"text": _text(chance), "language": "en", "score_threshold": chance.random()}
    else:
        shape = {
            "inputs": chance.choice((_text(chance), [_text(chance) for _ in range(2)])),
            "parameters": {},
        }
    return path, _dumped(shape)


def _dumped(shape: Any) -> bytes:
    try:
        return orjson.dumps(shape)
    except orjson.JSONEncodeError:  # a lone surrogate is no UTF-8; the standard library escapes it
        return json.dumps(shape).encode("ascii")


def _document(chance: random.Random) -> dict[str, Any]:
    document: dict[str, Any] = {"text": _text(chance)}
    if chance.random() < 0.5:
        document["id"] = chance.choice((chance.randrange(10**9), _text(chance)[:20], None))
    if chance.random() < 0.3:
        document["title"] = _text(chance)
    return document


def _text(chance: random.Random) -> str:
    words = [chance.choice(_WORDS) for _ in range(chance.randrange(1, 25))]
    if chance.random() < 0.3:
        words.insert(chance.randrange(len(words)), chance.choice(_ODD_TEXT))
    return " ".join(words)


def _options(chance: random.Random) -> dict[str, Any]:
    values: tuple[Any, ...] = (True, False, None, 0, 1, 0.5, -1, "utf8", "utf16", "codepoint", "", [], "true")
    return {name: chance.choice(values) for name in chance.sample(_OPTIONS, chance.randrange(3))}


def _query(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return ""
    name = chance.choice((*_OPTIONS, "", "a[]", "%00"))
    value = chance.choice(("true", "0.5", "2", "nan", "utf8", "\0", "é", "a" * 2000, "", "1e400", "&&=", "%"))
    return f"?{quote(name)}={quote(value, safe='&=%')}"


def _damaged(chance: random.Random, content: bytes) -> bytes:
    """One to three bytes or stretches lost, doubled, changed or put in."""
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(content) + 1)
        end = min(len(content), at + chance.choice((1, 1, 1, 3, 20)))
        put = chance.choice(
            (b"", chance.randbytes(1), content[at:end] * 2, chance.choice(string.printable).encode())
        )
        content = content[:at] + put + content[end:]
    return content


def _value_at(chance: random.Random, content: bytes) -> tuple[int, int]:
    """Where a value of a JSON text stands: behind a colon, a comma or a bracket, to the next of them."""
    starts = [at + 1 for at, byte in enumerate(content) if byte in b":,["] or [0]
    start = chance.choice(starts)
    ends = [at for at in range(start, len(content)) if content[at] in b",]}"]
    return start, ends[0] if ends else len(content)
