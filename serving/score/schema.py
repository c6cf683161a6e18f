"""The columns of the Parquet files that `embargo score` writes. They are the same for every run.

Rows (`OUT`), one a document; what was not asked for is null:

    id            string    as in the input; integers as digits; the row's number in the run if there is none
    labels        list      of {label, axis: string, score: double,
                                evidence: list of {start, end: int64, score: double, field: string}}
    entities      list      of {type: string, start, end: int64, text: string, score: double, field: string}
    coverage      struct    {tokens, windows: int64, truncated: bool}
    error         struct    {code, message: string}; null: documents with an error are in the rejects
    model_sha256  string    of the model's manifest.json
    title, text, published_at    string    with --with-text (published_at also with --date-field)

Spans (`--spans`), one an entity: id, field, type: string; start, end: int64; text: string; score: double.

`start` and `end` count in the run's --offset-unit, in the field that `field` names ("title" or "text").
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow


def rows_schema() -> "pyarrow.Schema":
    """One row a document."""
    import pyarrow as pa

    span = [("start", pa.int64()), ("end", pa.int64())]
    evidence = pa.struct([*span, ("score", pa.float64()), ("field", pa.string())])
    label = pa.struct(
        [
            ("label", pa.string()),
            ("axis", pa.string()),
            ("score", pa.float64()),
            ("evidence", pa.list_(evidence)),
        ]
    )
    entity = pa.struct(
        [
            ("type", pa.string()),
            *span,
            ("text", pa.string()),
            ("score", pa.float64()),
            ("field", pa.string()),
        ]
    )
    coverage = pa.struct([("tokens", pa.int64()), ("windows", pa.int64()), ("truncated", pa.bool_())])
    return pa.schema(
        [
            ("id", pa.string()),
            ("labels", pa.list_(label)),
            ("entities", pa.list_(entity)),
            ("coverage", coverage),
            ("error", pa.struct([("code", pa.string()), ("message", pa.string())])),
            ("model_sha256", pa.string()),
            ("title", pa.string()),
            ("text", pa.string()),
            ("published_at", pa.string()),
        ]
    )


def spans_schema() -> "pyarrow.Schema":
    """One row an entity."""
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("field", pa.string()),
            ("type", pa.string()),
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("text", pa.string()),
            ("score", pa.float64()),
        ]
    )
