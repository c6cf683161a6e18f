"""A run for people and machines: JSON with the unit in each key, tables, the README's lines."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from benchmarks import roofline
from benchmarks.accuracy import accuracy
from benchmarks.controller import RunResult, SystemResult
from benchmarks.rounds import Ratio
from benchmarks.work import Slice
from serving.errors import DocumentError
from serving.model_folder import FILES, ModelFolder
from serving.tokens import Tokenizer
from serving.windows import SPECIAL_TOKENS
from training.corpus import AnnotatedDocument
from training.schema import Schema

MIB = 1 << 20
QUICK_SAYS = "A quick run: it shows that everything runs, and measures nothing."


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of a slice, as the base model cuts it."""

    document: int
    """Each token once."""
    encoder: int
    """What the encoder must read: with the overlap of windows and their special tokens."""
    pairs: int
    """Pairs of tokens that attend to each other: the squares of the windows' lengths."""


def count_tokens(slices: Sequence[Slice], model: ModelFolder) -> dict[str, Tokens]:
    """By slice."""
    tokenizer = Tokenizer.from_file(str(model.path / FILES.tokenizer))
    windows = model.config.window_shape()
    counts = {}
    for slice in slices:
        streams = tokenizer.encode(slice.documents)
        lengths = [len(stream) for stream in streams if not isinstance(stream, DocumentError)]
        read = [len(window) + SPECIAL_TOKENS for length in lengths for window in windows.cut(length)]
        counts[slice.name] = Tokens(sum(lengths), sum(read), sum(length**2 for length in read))
    return counts


@dataclass(frozen=True, slots=True)
class Reference:
    """What results are judged by."""

    model: ModelFolder
    dev: Sequence[AnnotatedDocument]
    schema: Schema
    slices: Sequence[Slice]
    header: Mapping[str, object]
    """The run itself: when, where, which model, how many threads."""


def report(result: RunResult, reference: Reference) -> dict[str, Any]:
    """Everything, as JSON values."""
    tokens = count_tokens(reference.slices, reference.model)
    own = [s for s in result.systems if s.measured and s.entry.is_own and not s.entry.one_thread]
    return {
        **reference.header,
        "slices": {
            slice.name: {
                "documents": len(slice.documents),
                "calls": len(slice.calls),
                "words": slice.words,
                "document_tokens": tokens[slice.name].document,
                "encoder_tokens": tokens[slice.name].encoder,
                "rounds": slice.rounds,
            }
            for slice in reference.slices
        },
        "systems": {system.entry.name: _system(system, own, reference, tokens) for system in result.systems},
        "roofline": _roofline(result, own[0], reference, tokens),
        "scaling": _scaling(result, own[0]),
    }


def _system(
    system: SystemResult,
    own: Sequence[SystemResult],
    reference: Reference,
    tokens: Mapping[str, Tokens],
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "about": system.entry.about,
        "model": system.entry.model.name,
        "threads": system.threads,
        "versions": system.versions,
        "failure": system.failure,
    }
    if system.answers:
        row["accuracy"] = accuracy(reference.dev, system.answers, own[0].answers, reference.schema)
    if not system.measured:
        return row
    row["load_seconds"] = system.load_seconds
    row["peak_rss_bytes"] = system.measured.peak_rss_bytes
    row["setups_tried"] = system.tuning.tried if system.tuning else []
    row["slices"] = {
        slice.name: _slice(system, own, slice, tokens[slice.name])
        for slice in reference.slices
        if slice.name in system.measured.seconds
    }
    return row


def _slice(system: SystemResult, own: Sequence[SystemResult], slice: Slice, tokens: Tokens) -> dict[str, Any]:
    assert system.measured
    assert system.tuning
    seconds = system.measured.seconds[slice.name]
    median = statistics.median(seconds)
    return {
        "setup": system.tuning.choice(slice.kind),
        "seconds_by_round": seconds,
        "seconds_median": median,
        "milliseconds_a_call_median": 1000 * median / len(slice.calls),
        "words_per_second": slice.words / median,
        "document_tokens_per_second": tokens.document / median,
        "documents_per_second": len(slice.documents) / median,
        # By round, then the median: what a neighbour did to the machine falls on both.
        "times_as_fast_as_this": {
            ours.entry.name: asdict(Ratio.of(seconds, ours.measured.seconds[slice.name]))
            for ours in own
            if ours.measured and ours is not system
        },
    }


def _roofline(
    result: RunResult, ours: SystemResult, reference: Reference, tokens: Mapping[str, Tokens]
) -> dict[str, Any]:
    assert ours.measured
    config = orjson.loads((reference.model.path / FILES.config).read_bytes())
    flop, attention = roofline.flop_per_token(config), roofline.attention_flop_per_pair(config)
    gemm = _median_rates(result)
    achieved = {}
    for slice in reference.slices:
        count, seconds = tokens[slice.name], statistics.median(ours.measured.seconds[slice.name])
        projections = flop * count.encoder
        work = {"projections": projections, "with_attention": projections + attention * count.pairs}
        achieved[slice.name] = {
            name: _beside_gemm(done / seconds / 1e9, gemm[ours.threads]) for name, done in work.items()
        }
    return {
        "gemm_rows_inner_columns": roofline.SHAPE,
        "gemm_gflop_per_second_by_threads": {str(n): kinds for n, kinds in gemm.items()},
        "projection_flop_per_token": flop,
        "attention_flop_per_pair": attention,
        "graph_variant": reference.model.config.graph_variant,
        "achieved_by_slice": achieved,
    }


def _beside_gemm(rate: float, gemm: Mapping[str, float]) -> dict[str, float]:
    """A rate in GFLOP/s, and what share it is of each matrix product's."""
    return {"gflop_per_second": rate, **{f"share_of_{kind}_gemm": rate / top for kind, top in gemm.items()}}


def _scaling(result: RunResult, ours: SystemResult) -> dict[str, Any]:
    """From one thread to the budget, in the same rounds."""
    alone = next((s for s in result.systems if s.entry.one_thread and s.measured), None)
    if alone is None or alone.measured is None or ours.measured is None or ours.threads == 1:
        return {}
    ((slice, seconds),) = alone.measured.seconds.items()
    several, one = ([row[threads] for row in result.gemm] for threads in (ours.threads, 1))
    return {
        "threads": ours.threads,
        "slice": slice,
        "embargo_times_as_fast": asdict(Ratio.of(seconds, ours.measured.seconds[slice])),
        **{
            f"{kind}_gemm_times_as_fast": asdict(
                Ratio.of([row[kind] for row in several], [row[kind] for row in one])
            )
            for kind in several[0]
        },
    }


def _median_rates(result: RunResult) -> dict[int, dict[str, float]]:
    return {
        threads: {kind: statistics.median(row[threads][kind] for row in result.gemm) for kind in kinds}
        for threads, kinds in result.gemm[0].items()
    }


Cells = tuple[str, ...]


def rows(found: Mapping[str, Any], *, ranges: bool) -> tuple[Cells, list[Cells]]:
    """The head and the lines of the table: accuracy, and speed on each slice with the ratio to ours.

    `ranges`: with how far the ratio strayed over the rounds.
    """
    main = [name for name in found["slices"] if not name.startswith("words_")]
    first = next(name for name, system in found["systems"].items() if "slices" in system)
    head = ("system", "span F1", "label F1", *(_slice_title(name) for name in main), "peak MiB")
    lines: list[Cells] = []
    for name, system in found["systems"].items():
        reads = system.get("accuracy", {})
        if system["failure"]:
            lines.append((name, "left out", *["–"] * (len(head) - 2)))
            continue
        speeds = (_speed(system["slices"].get(slice), slice, first, ranges=ranges) for slice in main)
        spans, labels = (_score(reads.get(key)) for key in ("span_micro_f1", "label_macro_f1"))
        worse = "" if reads.get("equal_accuracy", True) else "*"
        lines.append((name, spans + worse, labels, *speeds, str(round(system["peak_rss_bytes"] / MIB))))
    return head, lines


def table(found: Mapping[str, Any]) -> Table:
    """For the terminal."""
    head, lines = rows(found, ranges=False)
    made = Table(box=None, title="words per second, and how many times as fast the first row is")
    for column in head:
        made.add_column(column, no_wrap=column == "system")
    for line in lines:
        made.add_row(*line)
    return made


def markdown(found: Mapping[str, Any]) -> str:
    """For the README."""
    head, lines = rows(found, ranges=True)
    every = [head, ("---",) * len(head), *lines]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in every)
    failures = "".join(
        f"Left out: {name}: {system['failure']}\n"
        for name, system in found["systems"].items()
        if system["failure"]
    )
    caution = f"{QUICK_SAYS}\n\n" if found["quick"] else ""
    dev = found["dev_documents"]
    return (
        f"{caution}{body}\n\n"
        f"Words a second (one short text: milliseconds) on {found['threads']} threads of {found['cpu']}; "
        f"behind it how many times as fast the first row is, median of ratios and their range over "
        f"interleaved rounds; accuracy on {dev} documents (*: more than 0.3 points of span F1 below the "
        f"first row).\n{failures}"
    )


def save(found: Mapping[str, Any], folder: Path) -> None:
    """report.json and table.md."""
    folder.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    (folder / "report.json").write_bytes(orjson.dumps(found, option=options) + b"\n")
    (folder / "table.md").write_text(markdown(found), encoding="utf-8")


def _slice_title(name: str) -> str:
    kind, _, count = name.partition("_")
    return f"{int(count):,} {kind}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _speed(slice: Mapping[str, Any] | None, name: str, first: str, *, ranges: bool) -> str:
    if slice is None:
        return "–"
    is_short = name.startswith("short_")
    speed = (
        f"{slice['milliseconds_a_call_median']:.1f} ms" if is_short else f"{slice['words_per_second']:,.0f}"
    )
    ratio = slice["times_as_fast_as_this"].get(first)
    if not ratio:
        return speed
    strayed = f", {ratio['lowest']:.2f}–{ratio['highest']:.2f}" if ranges else ""
    return f"{speed} ({ratio['median']:.2f}x{strayed})"
