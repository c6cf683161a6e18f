"""`embargo serve` and `embargo analyze`: the commands that need no more than serving does."""

import math
import os
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import orjson
import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from serving.errors import EmbargoError
from serving.results import OffsetUnit
from serving.settings import RELEASED_MODEL, Settings, find_model

ModelOption = Annotated[
    Path,
    typer.Option(
        "--model", envvar="EMBARGO_MODEL", help="Model folder, or a name in models/ or build/models/."
    ),
]


def serve(
    model: ModelOption = RELEASED_MODEL,
    host: Annotated[str, typer.Option(envvar="EMBARGO_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="EMBARGO_PORT", min=0, max=65535, help="Port to listen on.")
    ] = 8000,
    threads: Annotated[
        int | None, typer.Option(envvar="EMBARGO_THREADS", min=1, help="Parallel forward passes a process.")
    ] = None,
    workers: Annotated[
        int, typer.Option(envvar="EMBARGO_WORKERS", min=1, help="Processes; each has its share of the CPUs.")
    ] = 1,
) -> None:
    """Serve a model over HTTP."""
    import uvicorn

    from serving.connection import connections
    from serving.metrics import MULTIPROCESS_FOLDER
    from serving.model_folder import ModelFolder

    try:
        settings = Settings(model=model, host=host, port=port, threads=threads, workers=workers)
    except ValidationError as error:
        wrong = "; ".join(
            f"EMBARGO_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()
        )
        raise EmbargoError(f"{wrong}; `embargo serve --help` lists all settings.") from error
    except SettingsError as error:
        raise EmbargoError(
            f"{error}; a list is written as JSON, for example EMBARGO_CORS_ORIGINS='[\"https://desk.example\"]'."
        ) from error
    # A wrong folder is one clear line here, not a trace of the start-up, and workers that failed to start
    # would be replaced for ever.
    ModelFolder.open(settings.model)
    with suppress(OSError):  # a log that cannot be written stops no service
        typer.echo(f"Embargo on http://{host}:{port} (documentation at /docs)", err=True)
    with ExitStack() as kept:
        # Worker processes read their settings from the environment, and count into one folder.
        os.environ.update(settings.environment())
        if workers > 1 and MULTIPROCESS_FOLDER not in os.environ:
            os.environ[MULTIPROCESS_FOLDER] = kept.enter_context(tempfile.TemporaryDirectory())
        uvicorn.run(
            "serving.asgi:app",
            http=connections(settings.head_seconds),
            ws="none",
            host=host,
            port=port,
            workers=workers,
            log_config=None,
            access_log=False,
            # What was taken is answered by then, or 503.
            timeout_graceful_shutdown=math.ceil(settings.answer_seconds) + 1,
            # A worker that is busy with a long text is not dead; 5 s would kill it.
            timeout_worker_healthcheck=60,
        )


def settings_help() -> str:
    """What `embargo serve --help` says of the settings that are no flags."""
    lines = [
        f"EMBARGO_{name.upper()}: {field.description} [{field.default or 'none'}]"
        for name, field in Settings.model_fields.items()
        if name not in ("model", "host", "port", "threads", "workers")
    ]
    return "\n\n".join(["Further settings, from the environment:", *lines])


def analyze(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A text file in UTF-8, or - for stdin.")],
    model: ModelOption = RELEASED_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="JSON also on a terminal.")] = False,
    evidence: Annotated[bool, typer.Option(help="The sentences that speak for each label.")] = True,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="In place of the model's thresholds.")
    ] = None,
    offset_unit: Annotated[str, typer.Option(help="codepoint, utf16 or utf8.")] = "codepoint",
    svg: Annotated[Path | None, typer.Option(help="Save the terminal view as a picture.")] = None,
) -> None:
    """Read one text: pretty on a terminal, JSON when piped."""
    from serving import api, terminal
    from serving.analyzer import Analyzer
    from serving.model_folder import ModelFolder
    from serving.results import Analysis, Document, Options
    from serving.score.sources import readable

    unit = offset_unit_named(offset_unit)
    name = readable(file)
    content = sys.stdin.buffer.read() if file == "-" else _read(Path(file))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EmbargoError(f"{name} is not UTF-8 ({error}); convert it, for example with iconv.") from error
    folder = ModelFolder.open(find_model(model))
    analyzer = Analyzer.load(folder)

    def analysis_in(unit: OffsetUnit) -> Analysis:
        asked = Options(evidence=evidence, min_score=min_score, offset_unit=unit)
        analysis = analyzer.analyze([Document(text=text, id=name)], asked)[0]
        if analysis.error:
            raise EmbargoError(f"{name}: {analysis.error.message}")
        return analysis

    pretty = sys.stdout.isatty() and not as_json
    # The terminal view marks code points, whatever unit the JSON uses.
    analysis = analysis_in("codepoint" if pretty else unit)
    if svg:
        terminal.save(text, analysis if pretty else analysis_in("codepoint"), svg)
    if pretty:
        terminal.show(text, analysis)
        return
    row = {"model": api.model_identity(folder), **api.result_json(analysis)}
    sys.stdout.buffer.write(orjson.dumps(row, option=orjson.OPT_INDENT_2) + b"\n")


def offset_unit_named(name: str) -> OffsetUnit:
    """The unit of that name. Raises EmbargoError."""
    units: dict[str, OffsetUnit] = {"codepoint": "codepoint", "utf16": "utf16", "utf8": "utf8"}
    if name not in units:
        raise EmbargoError(f"unknown offset unit {name!r}; expected one of {', '.join(units)}.")
    return units[name]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EmbargoError(f"{path} cannot be read ({error.strerror}); expected a text file.") from error
