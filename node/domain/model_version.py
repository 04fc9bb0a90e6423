"""Which model: its name and its version."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of one model, as `model.toml` names it."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"
