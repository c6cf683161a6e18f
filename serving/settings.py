"""How a server is run: read once from `EMBARGO_*`, unchangeable afterwards."""

import json
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.forward import available_cpus

RELEASED_MODEL = Path("models/embargo-base-v3")
TRAINED_MODELS = Path("build/models")


class Settings(BaseSettings):
    """Each field is an environment variable `EMBARGO_<NAME>`; the first five are flags too."""

    model_config = SettingsConfigDict(env_prefix="EMBARGO_", frozen=True, extra="forbid")

    model: Path = Field(RELEASED_MODEL, description="Model folder to serve.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    threads: int | None = Field(
        None, ge=1, description="Parallel forward passes; default: the CPUs this process may use."
    )
    workers: int = Field(1, ge=1, description="Processes; each has its share of the CPUs.")
    max_characters: int | None = Field(
        None, ge=1, description="Characters a text may have; default: the model's own limit."
    )
    max_documents: int = Field(1024, ge=1, description="Documents a request may hold.")
    max_body_bytes: int = Field(
        16 * 1024 * 1024, ge=1, description="Bytes a request may have, once unpacked."
    )
    max_line_bytes: int = Field(8 * 1024 * 1024, ge=1, description="Bytes a line of NDJSON may have.")
    max_queue_tokens: int = Field(
        200_000, ge=1, description="Tokens that may wait for an answer, by estimate; beyond it: 429."
    )
    head_seconds: float = Field(10, gt=0, description="Seconds in which a request's head must have arrived.")
    body_seconds: float = Field(
        30, gt=0, description="Seconds in which a body, or a line of a stream, must have arrived."
    )
    answer_seconds: float = Field(300, gt=0, description="Seconds in which a request is answered, or 503.")
    drain_seconds: float = Field(
        0, ge=0, description="On SIGTERM, seconds of not ready before no more requests are taken."
    )
    cache_bytes: int = Field(
        0, ge=0, description="Memory for results of texts that come again, by process; 0: none."
    )
    api_keys: tuple[str, ...] = Field(
        (), description="SHA-256 of each key that may call, as JSON list; none: everybody may."
    )
    cors_origins: tuple[str, ...] = Field((), description="Origins whose pages may call, as JSON list.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, for worker processes."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return {
            f"EMBARGO_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in fields.items()
        }

    def engine_threads(self) -> int:
        """Parallel forward passes of one process."""
        return self.threads or max(1, available_cpus() // self.workers)

    @field_validator("api_keys")
    @classmethod
    def _hashed(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [key for key in keys if not re.fullmatch("[0-9a-fA-F]{64}", key)]:
            raise ValueError(
                f"{len(wrong)} of {len(keys)} are no SHA-256 in hexadecimal; hash a key with "
                "`printf %s KEY | sha256sum`"
            )
        return tuple(key.lower() for key in keys)

    @field_validator("model")
    @classmethod
    def _released_by_name(cls, model: Path) -> Path:
        return find_model(model)


def find_model(model: Path) -> Path:
    """A folder as given, or the model of that name: a released one, or else one trained here."""
    named = (folder / model for folder in (RELEASED_MODEL.parent, TRAINED_MODELS))
    return model if model.exists() else next((found for found in named if found.exists()), model)
