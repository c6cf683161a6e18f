"""What cannot be scored is told with its place and reason, and costs nothing else."""

import errno
import gzip
import io
import os
import random
import tracemalloc
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from serving.errors import ScoreError
from serving.score.parts import Cut
from serving.score.reading import Fields, Reading, Row
from serving.score.rows import rows
from serving.score.sources import find_sources
from serving.score.streams import Cursor
from tests.corpora import Runs, as_csv, documents, jsonl, read_rows, rejects, write_corpus

LIMIT = 2000


def reasons(output: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(row["reason"], row["position"]) for row in rejects(output)]


def test_bad_lines_of_jsonl(runs: Runs, tmp_path: Path) -> None:
    good = jsonl([{"id": "g", "text": "oil"}])
    lines = [
        b"\xef\xbb\xbf" + good,
        b'{"id": "cut", "text": "o\n',
        b"\n",
        b'{"text": "\xff"}\n',
        b"[1]\n",
        b'{"id": "none"}\n',
        b'{"id": "empty", "text": " "}\n',
        b'{"id": "lone", "text": "a \\ud800"}\n',
        b'{"id": "long", "text": "' + b"x" * LIMIT + b'"}\n',
        b'{"id": 1.5, "text": "oil"}\n',
        good.strip(),
    ]
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines))
    outcome = runs(tmp_path / "a.jsonl", to=tmp_path / "o.jsonl", max_row_bytes=LIMIT)
    assert [row["id"] for row in read_rows(tmp_path / "o.jsonl")] == ["g", "g"]
    offsets = [sum(map(len, lines[:n])) for n in range(len(lines))]
    bad = {
        2: "not_json",
        4: "not_json",
        5: "invalid_document",
        6: "not_text",
        7: "empty",
        8: "lone_surrogate",
        9: "row_too_long",
        10: "invalid_document",
    }
    assert reasons(tmp_path / "o.jsonl") == [
        (reason, {"line": line, "offset": offsets[line - 1]}) for line, reason in bad.items()
    ]
    assert rejects(tmp_path / "o.jsonl")[3]["id"] == "none"
    assert (outcome.counts.read, outcome.counts.written, outcome.counts.rejected) == (10, 2, 8)


def test_a_date_or_an_id_that_cannot_be_written_is_a_reject(runs: Runs, tmp_path: Path) -> None:
    lone = [
        b'{"id": "d", "text": "oil", "published_at": "a \\ud800"}\n',
        b'{"id": "\\udfff", "text": "oil"}\n',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"".join(lone) + jsonl(documents(1)))
    runs(tmp_path / "a.jsonl", to=tmp_path / "o.jsonl", with_date=True)
    found = [(row["id"], row["reason"]) for row in rejects(tmp_path / "o.jsonl")]
    assert found == [("d", "lone_surrogate"), ("1", "invalid_document")]
    assert [row["id"] for row in read_rows(tmp_path / "o.jsonl")] == ["d0"]


def test_bad_records_of_csv(runs: Runs, tmp_path: Path) -> None:
    records = [
        "id,text\n",
        'a,"oil ""and""\ncoal"\n',
        "b,one,two\n",
        'c,"x"y",z\nmore"\n',
        "\n",
        f'd,"{"x" * 50}\n' + f"{'y' * 100},e\n" * (LIMIT // 50) + '"\n',
        f"e,{'z' * LIMIT}\n",
        'f,"last"\n',
        'g,"never closed\n',
    ]
    content = "".join(records).encode()
    (tmp_path / "a.csv").write_bytes(content.replace(b"b,one", b"b,\xff\nb,one"))
    runs(tmp_path / "a.csv", to=tmp_path / "o.jsonl", max_row_bytes=LIMIT, with_text=True)
    assert [(row["id"], row["text"]) for row in read_rows(tmp_path / "o.jsonl")] == [
        ("a", 'oil "and"\ncoal'),
        ("f", "last"),
    ]
    found = [(row["reason"], row["position"]["line"]) for row in rejects(tmp_path / "o.jsonl")]
    after = 9 + LIMIT // 50 + 2
    assert found == [
        ("not_utf8", 4),
        ("wrong_columns", 5),
        ("bad_csv", 6),
        ("row_too_long", 9),
        ("row_too_long", after),
        ("bad_csv", after + 2),
    ]


def csv_reading(path: Path, limit: int = LIMIT) -> Reading:
    return Reading(find_sources([str(path)])[0], Fields(), limit, Cursor())


def codes(reading: Reading) -> list[str]:
    """Of each row the code of its problem, or its id."""
    return [getattr(row.content, "code", None) or row.content["id"] for row in rows(reading)]


GOOD_ROWS = "".join(f'{n},"oil, {n}"\n' for n in range(2, 1000))


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b'1,"a 5" pipe"\n', "bad_csv"),
        (b'1,"\xff\n', "not_utf8"),
        (b'1,"never closed\n', "bad_csv"),
    ],
)
@pytest.mark.parametrize("limit", [LIMIT, 1 << 24])
def test_a_record_of_csv_whose_quotes_do_not_end_costs_its_line_alone(
    tmp_path: Path, bad: bytes, code: str, limit: int
) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n0,fine\n" + bad + GOOD_ROWS.encode())
    assert codes(csv_reading(tmp_path / "a.csv", limit)) == ["0", code, *map(str, range(2, 1000))]
    (tmp_path / "b.csv").write_bytes(b"id,text\n" + GOOD_ROWS.encode() + bad.rstrip(b"\n"))
    assert codes(csv_reading(tmp_path / "b.csv", limit)) == [*map(str, range(2, 1000)), code]
    (tmp_path / "c.csv").write_bytes(b'id,text\n1,5" pipe,"open\n2,oil\n3,coal')
    assert codes(csv_reading(tmp_path / "c.csv", limit)) == ["bad_csv", "2", "3"]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "-"])
def test_a_place_behind_a_bad_record_of_csv_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content = f'id,text\n0,fine\n1,"a 5" pipe"\n{GOOD_ROWS}x,"open\n\nz,fine\n'.encode()
    if name != "-":
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)

    def found(start: Cursor) -> list[Row]:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        given = name if name == "-" else str(tmp_path / name)
        source = find_sources([given], input_format="csv")[0]
        return [row._replace(share=0.0) for row in rows(Reading(source, Fields(), LIMIT, start))]

    whole = found(Cursor())
    assert [getattr(row.content, "code", "good") for row in whole[-3:]] == ["good", "bad_csv", "good"]
    for number in (0, 1, 2, 500, len(whole) - 2, len(whole) - 1):
        after = whole[number].after
        assert after
        assert found(after) == whole[number + 1 :]


def test_lines_of_csv_that_are_read_twice_are_held_in_bounded_memory(tmp_path: Path) -> None:
    limit = 1 << 17
    content = b'id,text\n1,"a 5" pipe"\n' + b"\n" * 2 * limit + b"2,oil\n"
    (tmp_path / "a.csv").write_bytes(content)
    tracemalloc.start()
    try:
        found = codes(csv_reading(tmp_path / "a.csv", limit))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == ["bad_csv", "2"]
    assert peak < 8 * limit


def test_empty_lines_may_stand_before_the_header_of_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf\n\r\nid,text\na,oil\n")
    assert codes(csv_reading(tmp_path / "a.csv")) == ["a"]
    (tmp_path / "b.csv").write_bytes(b"\n" * 2 * LIMIT)
    assert codes(csv_reading(tmp_path / "b.csv")) == []


def test_a_row_of_parquet_is_measured_without_the_dictionary_of_its_column(
    runs: Runs, tmp_path: Path
) -> None:
    texts = [f"oil {n} {'x' * 100}" for n in range(100)] + ["x" * LIMIT]
    table = pa.table({"text": pa.array(texts).dictionary_encode(), "title": pa.array(["coal"] * 101)})
    pq.write_table(table, tmp_path / "a.parquet")
    runs(tmp_path / "a.parquet", to=tmp_path / "o.jsonl", max_row_bytes=LIMIT, with_text=True)
    assert [row["text"] for row in read_rows(tmp_path / "o.jsonl")] == texts[:100]
    assert reasons(tmp_path / "o.jsonl") == [("row_too_long", {"row": 101})]


def test_bad_rows_of_parquet(runs: Runs, tmp_path: Path) -> None:
    texts = [b"oil", None, b"\xff", b"x" * LIMIT, b"coal"]
    pq.write_table(pa.table({"text": pa.array(texts, pa.binary())}), tmp_path / "a.parquet")
    runs(tmp_path / "a.parquet", to=tmp_path / "o.jsonl", max_row_bytes=LIMIT)
    assert [row["id"] for row in read_rows(tmp_path / "o.jsonl")] == ["0", "4"]
    found = [("not_text", {"row": 2}), ("not_utf8", {"row": 3}), ("row_too_long", {"row": 4})]
    assert reasons(tmp_path / "o.jsonl") == found


def test_a_date_of_parquet_that_python_cannot_express_is_a_reject(runs: Runs, tmp_path: Path) -> None:
    dates = pa.array([0, 2**40], pa.timestamp("s"))
    pq.write_table(pa.table({"text": ["oil", "coal"], "published_at": dates}), tmp_path / "a.parquet")
    runs(tmp_path / "a.parquet", to=tmp_path / "d.jsonl", with_date=True)
    assert reasons(tmp_path / "d.jsonl") == [("invalid_document", {"row": 2})]
    runs(tmp_path / "a.parquet", to=tmp_path / "o.jsonl")
    assert len(read_rows(tmp_path / "o.jsonl")) == 2


def test_bad_files_of_a_folder(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, content in (("a", b"oil"), ("b", b"\xff"), ("c", b"x" * (LIMIT + 1)), ("d", b"coal")):
        (folder / f"{name}.txt").write_bytes(content)
    (folder / "e.txt").symlink_to("nowhere")
    runs(folder, to=tmp_path / "o.jsonl", max_row_bytes=LIMIT)
    assert [row["id"] for row in read_rows(tmp_path / "o.jsonl")] == ["a.txt", "d.txt"]
    assert reasons(tmp_path / "o.jsonl") == [
        (reason, {"file": str(folder / f"{name}.txt")})
        for reason, name in (("not_utf8", "b"), ("row_too_long", "c"), ("unreadable", "e"))
    ]


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.jsonl.gz", "gone.csv", "gone.parquet", "pipe.jsonl"])
def test_a_file_that_cannot_be_read_is_one_reject(runs: Runs, tmp_path: Path, name: str) -> None:
    if name == "pipe.jsonl":
        os.mkfifo(tmp_path / name)
    last = write_corpus(tmp_path / "z.jsonl", documents(2))
    outcome = runs(tmp_path / name, last, to=tmp_path / "o.jsonl")
    (reject,) = rejects(tmp_path / "o.jsonl")
    assert (reject["input"], reject["reason"]) == (str(tmp_path / name), "unreadable")
    assert (outcome.counts.read, outcome.counts.written) == (3, 2)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv.gz", "a.parquet", "notes", "a.txt"])
def test_a_file_that_fails_for_a_while_makes_no_rejects(runs: Runs, tmp_path: Path, name: str) -> None:
    corpus = write_corpus(tmp_path / name, documents(9)) if name != "a.txt" else tmp_path / name
    if name == "a.txt":
        corpus.write_text("oil", encoding="utf-8")
    runs(corpus, to=tmp_path / "whole.jsonl", cut=Cut(rows=2))

    def failing(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    out = tmp_path / "o.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        for module in ("reading", "rows", "parquet_rows"):
            patch.setattr(f"serving.score.{module}.open_file", failing)
        with pytest.raises(ScoreError, match=r"could be read when the run began.*Input/output error"):
            runs(corpus, to=out, cut=Cut(rows=2))
    runs(corpus, to=out, cut=Cut(rows=2))
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert rejects(out) == []


def test_damage_within_parquet_is_a_reject(runs: Runs, tmp_path: Path) -> None:
    corpus = tmp_path / "a.parquet"
    texts = [random.Random(n).randbytes(300).hex() for n in range(400)]
    pq.write_table(pa.table({"text": texts}), corpus, row_group_size=100, use_dictionary=False)
    content = bytearray(corpus.read_bytes())
    at = len(content) // 2
    content[at : at + 20_000] = b"\xff" * 20_000
    corpus.write_bytes(content)
    runs(corpus, to=tmp_path / "o.jsonl")
    assert [reason for reason, _ in reasons(tmp_path / "o.jsonl")] == ["broken_parquet"]
    assert len(read_rows(tmp_path / "o.jsonl")) >= 100


def test_large_rows_of_parquet_are_decoded_one_by_one(tmp_path: Path) -> None:
    texts = [random.Random(n).randbytes(500_000).hex() for n in range(30)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", write_batch_size=1)  # pages of 1 MiB
    reading = Reading(find_sources([str(tmp_path / "a.parquet")])[0], Fields(), 1 << 24, Cursor())
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in rows(reading)]
    assert len(held) == 30
    assert max(held) < 8_000_000  # of 30 MB


def test_a_table_without_the_text_column_says_which_it_has(runs: Runs, tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.parquet", [{"body": "oil"}])
    (tmp_path / "b.csv").write_bytes(as_csv([{"body": "oil"}]))
    runs(tmp_path / "a.parquet", tmp_path / "b.csv", to=tmp_path / "o.jsonl")
    for reject in rejects(tmp_path / "o.jsonl"):
        assert reject["reason"] == "no_such_field"
        assert "body" in reject["message"]
        assert "--text-field" in reject["message"]


def checked_zstd(content: bytes) -> bytes:
    """With a checksum, as the command zstd writes it; without one no damage to text can be seen."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_what_stands_before_damage_is_read(tmp_path: Path, compression: str) -> None:
    made = random.Random(3)
    numbered = [{"id": i, "text": made.randbytes(40).hex()} for i in range(6000)]
    content = (gzip.compress if compression == "gz" else checked_zstd)(jsonl(numbered))
    third = len(content) // 3
    for damage in (content[:third], content[:third] + bytes(200) + content[third + 200 :]):
        path = tmp_path / f"a.jsonl.{compression}"
        path.write_bytes(damage)
        found = list(rows(Reading(find_sources([str(path)])[0], Fields(), LIMIT, Cursor())))
        # zstd keeps 128 KiB in a block; of a block that is not whole nothing can be had.
        sound = 2000 - 131_072 // 100
        assert [row.content for row in found[:sound]] == [
            {**row, "title": None, "published_at": None} for row in numbered[:sound]
        ]
        assert found[-1].content.code == {"gz": "broken_gzip", "zst": "broken_zstd"}[compression]
        assert found[-1].after is None
        assert len(found) < 6000


def test_a_broken_file_costs_no_other(runs: Runs, tmp_path: Path) -> None:
    content = gzip.compress(jsonl(documents(30)))
    (tmp_path / "a.jsonl.gz").write_bytes(content[:-20])
    (tmp_path / "b.jsonl.gz").write_bytes(b"this is no gzip")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")
    last = write_corpus(tmp_path / "d.jsonl", documents(3))
    inputs = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz", tmp_path / "c.parquet", last]
    outcome = runs(*inputs, to=tmp_path / "o.jsonl", cut=Cut(rows=4))
    assert [reason for reason, _ in reasons(tmp_path / "o.jsonl")] == [
        "broken_gzip",
        "broken_gzip",
        "broken_parquet",
    ]
    assert [row["id"] for row in read_rows(tmp_path / "o.jsonl")][-3:] == ["d0", "d1", "d2"]
    assert outcome.counts.read == outcome.counts.written + outcome.counts.rejected


def test_a_break_tells_nothing_of_how_far_the_next_input_is(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"this is no gzip")
    last = write_corpus(tmp_path / "b.jsonl", documents(30))
    runs(tmp_path / "a.jsonl.gz", last, to=tmp_path / "o.jsonl", cut=Cut(rows=1))
    assert runs.view.reached[0] == len(b"this is no gzip")


def test_members_of_gzip_and_frames_of_zstd_follow_each_other(runs: Runs, tmp_path: Path) -> None:
    halves = [jsonl(documents(8)[:4]), jsonl(documents(8)[4:])]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(map(gzip.compress, halves)) + bytes(600))
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, halves)))
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        runs(tmp_path / name, to=tmp_path / f"o-{name}")
        assert [row["id"] for row in read_rows(tmp_path / f"o-{name}")] == [f"d{n}" for n in range(8)]
        assert rejects(tmp_path / f"o-{name}") == []


HUGE_BYTES = 256 * 1024 * 1024


def write_huge(path: Path) -> None:
    """A row of `HUGE_BYTES` between two good ones, written a piece at a time."""
    before, after = {
        "huge.txt": (b"", b""),
        "huge.csv": (b'text\noil\n"', b'"\noil\n'),
    }.get(path.name, (b'{"text": "oil"}\n', b'\n{"text": "oil"}\n'))
    piece = bytes(HUGE_BYTES // 256)
    compressors = {".gz": zlib.compressobj(1, wbits=31), ".zst": zstandard.ZstdCompressor().compressobj()}
    compressor = compressors.get(path.suffix)
    with path.open("wb") as file:
        for content in (before, *[piece] * 256, after):
            file.write(compressor.compress(content) if compressor else content)
        if compressor:
            file.write(compressor.flush())


@pytest.mark.parametrize("name", ["huge.jsonl", "huge.csv", "huge.jsonl.gz", "huge.jsonl.zst", "huge.txt"])
def test_a_row_of_any_length_is_passed_over_in_bounded_memory(tmp_path: Path, name: str) -> None:
    write_huge(tmp_path / name)
    limit = 1 << 20
    reading = Reading(find_sources([str(tmp_path / name)])[0], Fields(), limit, Cursor())
    tracemalloc.start()
    try:
        found = [getattr(row.content, "code", "good") for row in rows(reading)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == (["row_too_long"] if name == "huge.txt" else ["good", "row_too_long", "good"])
    # A line is collected and then copied once; zstd hands out what 128 bytes stand for.
    assert peak < 3 * limit + 8 * 1024 * 1024
