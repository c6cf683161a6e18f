"""What `embargo score` is asked to do, where its files go, and what its result depends on."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from serving import api
from serving.errors import ScoreError
from serving.model_folder import ModelFolder
from serving.results import Options
from serving.score.finish import REJECTS, Targets
from serving.score.manifest import RunIdentity, software
from serving.score.outputs import OutputFormat, checked_format, file_format, is_ftm, output_format
from serving.score.parts import Cut, Inputs
from serving.score.reading import Fields
from serving.score.sources import Source, readable

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """What `embargo score` is asked to do."""

    inputs: Sequence[str]
    output: str
    options: Options = field(default_factory=Options)
    fields: Fields = field(default_factory=Fields)
    cut: Cut = field(default_factory=Cut)
    max_row_bytes: int = 16 * 1024 * 1024
    input_format: str | None = None
    form: str | None = None
    """Of the parts of a folder, and of stdout; a file's is its suffix, but for `ftm`."""
    with_text: bool = False
    with_date: bool = False
    spans: Path | None = None
    rejects: Path | None = None
    restart: bool = False

    def reading(self, sources: Sequence[Source], form: OutputFormat) -> Inputs:
        """How its inputs are read if rows are written in this format."""
        with_date = self.with_text or self.with_date or is_ftm(form)
        return Inputs(sources, self.fields, self.max_row_bytes, with_date=with_date)

    def targets(self) -> Targets:
        """The files it makes. Raises ScoreError."""
        out = Path(self.output)
        if not out.name:
            raise ScoreError(f"{self.output!r} is no name of an output; name a file or a new folder.")
        is_folder = not out.suffix or self.output.endswith("/")
        form = checked_format(self.form or "jsonl") if is_folder else file_format(out.name, self.form)
        spans_form = output_format(self.spans.name) if self.spans else None
        if spans_form and is_ftm(spans_form):
            raise ScoreError(f"{self.spans} is to be a table of spans; end its name in .jsonl or .parquet.")
        targets = Targets(
            out=out,
            rejects=self.rejects or out.with_name(f"{out.name}.{REJECTS}"),
            spans=self.spans,
            form=form,
            spans_form=spans_form,
            is_folder=is_folder,
        )
        places = [os.path.abspath(path) for path in targets.own()]
        if twice := [place for place in places if places.count(place) > 1]:
            raise ScoreError(
                f"two outputs of the run are or need the same file {Path(twice[0]).name}; give --output, "
                "--spans and --rejects names of their own."
            )
        return targets

    def identity(self, model: ModelFolder, sources: Sequence[Source], targets: Targets) -> RunIdentity:
        """What the result depends on; reads all inputs to hash them."""
        options = {
            **asdict(self.options),
            **{f"{name}_field": value for name, value in asdict(self.fields).items()},
            **{f"part_{name}": value for name, value in asdict(self.cut).items()},
            "max_row_bytes": self.max_row_bytes,
            "input_format": self.input_format,
            "with_text": self.with_text,
            "with_date": self.with_date,
            "format": targets.form,
            "spans": readable(str(targets.spans)) if targets.spans else None,
            "rejects": readable(str(targets.rejects)),
        }
        formats = {targets.form, targets.spans_form, *(source.format for source in sources)}
        zstd = "jsonl.zst" in formats or any(source.compression == "zst" for source in sources)
        libraries = [*(["pyarrow"] if "parquet" in formats else []), *(["zstandard"] if zstd else [])]
        return RunIdentity(
            model=api.model_identity(model),
            options=options,
            inputs=tuple(source.identity() for source in sources),
            software=software(*libraries),
        )
