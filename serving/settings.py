"""How a server is run: read once from `EMBARGO_*`, unchangeable afterwards."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

RELEASED_MODEL = Path("models/embargo-base-v1")


class Settings(BaseSettings):
    """Each field is an environment variable `EMBARGO_<NAME>`; the first four are flags too."""

    model_config = SettingsConfigDict(env_prefix="EMBARGO_", frozen=True, extra="forbid")

    model: Path = Field(RELEASED_MODEL, description="Model folder to serve.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    threads: int | None = Field(
        None, ge=1, description="Parallel forward passes; default: the CPUs this process may use."
    )
    max_characters: int | None = Field(
        None, ge=1, description="Characters a text may have; default: the model's own limit."
    )
    max_documents: int = Field(1024, ge=1, description="Documents a request may hold.")
    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Bytes a request may have.")

    @field_validator("model")
    @classmethod
    def _released_by_name(cls, model: Path) -> Path:
        return find_model(model)


def find_model(model: Path) -> Path:
    """A folder as given, or the released model of that name."""
    released = RELEASED_MODEL.parent / model
    return released if not model.exists() and released.exists() else model
