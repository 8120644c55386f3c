"""The fields of a JSON file, taken out by type; every complaint names the file and the field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mertric.errors import CheckpointError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Fields:
    """One JSON object and the name of its file."""

    file: str
    values: Mapping[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """The value; without a default the field must be there."""
        if name in self.values:
            return self.values[name]
        if default is None:
            raise ConfigurationError(
                f"{self.file} has no field {name}, which decides the model's arithmetic. "
                "Use the configuration that belongs to the checkpoint."
            )
        return default

    def expect(self, name: str, supported: tuple[object, ...], reason: str) -> None:
        """Refuse any value but the supported ones, of which the first stands for an absent field."""
        value = self.values.get(name, supported[0])
        if not any(value is one or (type(value) is type(one) and value == one) for one in supported):
            choices = " or ".join(json.dumps(one) for one in supported)
            raise ConfigurationError(
                f"{name} in {self.file} is {json.dumps(value)}; supported: {choices} ({reason}). "
                "Use a checkpoint of the MERT-v1 kind."
            )

    def count(self, name: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self.get(name, default)
        if type(value) is not int or value < 1:
            raise self._wrong(name, "a positive integer")
        return value

    def counts(self, name: str) -> tuple[int, ...]:
        """A list of positive integers."""
        value = self.get(name)
        if type(value) is not list or not all(type(one) is int and one > 0 for one in value):
            raise self._wrong(name, "a list of positive integers, one per convolution")
        return tuple(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name, default)
        if type(value) is not bool:
            raise self._wrong(name, "true or false")
        return value

    def epsilon(self, name: str, default: float) -> float:
        """A number between 0 and 1."""
        value = self.get(name, default)
        if type(value) not in (int, float) or not 0 < value < 1:
            raise self._wrong(name, "a number between 0 and 1")
        return float(value)

    def _wrong(self, name: str, expected: str) -> ConfigurationError:
        return ConfigurationError(
            f"{name} in {self.file} is {json.dumps(self.values[name])}; expected {expected}. "
            "Use the configuration that belongs to the checkpoint."
        )


def read_fields(path: Path) -> Fields:
    """The JSON object in a file.

    Raises
    ------
    CheckpointError
        The file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} does not exist. A checkpoint holds config.json, preprocessor_config.json and weights."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}). Copy or fetch it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected an object. Fetch it again.")
    return Fields(path.name, content)
