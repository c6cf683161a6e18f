"""Rows of Parquet, a buffer of each column at a time."""

from collections.abc import Iterator
from typing import Any

from serving.results import Problem
from serving.score.reading import Reading, Row, check_text_field, not_utf8, too_long
from serving.score.sources import open_file
from serving.score.streams import BrokenInput, Cursor

_TOGETHER = 16
"""At most so many rows are decoded together,"""
_TOGETHER_BYTES = 1 << 20
"""and about so many bytes, by the mean of their row group."""
_BUFFER_BYTES = 1 << 20


def parquet_rows(reading: Reading) -> Iterator[Row]:
    """Raises BrokenInput."""
    import pyarrow
    import pyarrow.parquet

    open_file(reading.source.path).close()
    try:
        # Column chunks are read a buffer at a time, not whole row groups.
        with pyarrow.parquet.ParquetFile(
            reading.source.path, buffer_size=_BUFFER_BYTES, pre_buffer=False
        ) as file:
            names = file.schema_arrow.names
            check_text_field(names, reading.fields)
            wanted = reading.fields
            asked = (wanted.id, wanted.text, wanted.title, *([wanted.date] if reading.with_date else []))
            columns = [column for column in dict.fromkeys(asked) if column in names]
            row = 0
            for group in range(file.num_row_groups):
                shape = file.metadata.row_group(group)
                end = row + shape.num_rows
                if end <= reading.start.offset:
                    row = end
                    continue
                together = _TOGETHER_BYTES * shape.num_rows // max(shape.total_byte_size, 1)
                together = max(1, min(together, _TOGETHER))
                for batch in file.iter_batches(together, row_groups=[group], columns=columns):
                    for number in range(batch.num_rows):
                        if row >= reading.start.offset:
                            content = _cells(batch.slice(number, 1), reading)
                            after = Cursor(offset=row + 1)
                            share = after.offset / file.metadata.num_rows
                            yield Row({"row": row + 1}, after, content, share)
                        row += 1
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the file's: of damage Arrow makes an OSError without a number
        raise BrokenInput("broken_parquet", f"The rest is no Parquet ({str(error)[:500]}).") from error


def _decoded(batch: Any) -> Any:
    """Words of a dictionary in its place: a slice counts all of the dictionary as its own."""
    import pyarrow

    if not any(map(pyarrow.types.is_dictionary, batch.schema.types)):
        return batch
    columns = [c.dictionary_decode() if isinstance(c, pyarrow.DictionaryArray) else c for c in batch.columns]
    return pyarrow.RecordBatch.from_arrays(columns, batch.schema.names)


def _cells(batch: Any, reading: Reading) -> dict[str, Any] | Problem:
    """A batch of one row. *Type:* pyarrow.RecordBatch."""
    batch = _decoded(batch)
    if batch.nbytes > reading.limit:
        return too_long(reading)
    try:
        row = batch.to_pylist()[0]
        # Older writers mark no column as text.
        texts = {name: v.decode("utf-8") if isinstance(v, bytes) else v for name, v in row.items()}
        return reading.fields.pick(texts)
    except UnicodeDecodeError as error:
        return not_utf8(error)
    except (OverflowError, ValueError) as error:  # of dates that Python cannot express
        return Problem(
            "invalid_document",
            f"A value cannot be read ({str(error)[:200]}); dates must lie in the years 1 to 9999 and have no "
            "more than microseconds. Cast the column, for example to text.",
        )
