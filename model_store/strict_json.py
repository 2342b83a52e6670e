"""JSON that was written by others: bounded, without duplicate keys, and with every type checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from model_store.errors import ModelStoreError, OversizedHeaderError
from model_store.files import require_regular_file

MAXIMUM_JSON_BYTES = 1 << 20


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is no finite number")
    return number


def parse(data: bytes, where: str, invalid: type[ModelStoreError]) -> Fields:
    """The JSON object in `data`.

    Raises:
        invalid: no UTF-8, no JSON, no object, nested too deeply, a duplicate key, NaN, an infinity or a
            lone surrogate.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # finds lone surrogates
    except (ValueError, RecursionError) as error:
        raise invalid(f"{where}: no valid JSON: {error!s:.200}") from error
    return Fields(value, where, invalid)


def read_bytes(path: Path) -> bytes:
    """The bytes of a small regular file.

    Raises:
        OversizedHeaderError: over `MAXIMUM_JSON_BYTES`.
        MissingFileError, PathOutsideStoreError, UnexpectedFileError: see `require_regular_file`.
    """
    require_regular_file(path)
    with path.open("rb") as file:
        data = file.read(MAXIMUM_JSON_BYTES + 1)
    if len(data) > MAXIMUM_JSON_BYTES:
        raise OversizedHeaderError(f"{path} is over {MAXIMUM_JSON_BYTES} bytes")
    return data


def dump(value: Mapping[str, object], where: str, invalid: type[ModelStoreError]) -> bytes:
    """`value` as readable UTF-8 JSON.

    Raises:
        invalid: a value that JSON has no place for, NaN and infinities included.
    """
    try:
        return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(f"{where}: cannot be written as JSON: {error!s:.200}") from error


class Fields:
    """Typed access to a JSON object; everything of the wrong type raises `invalid`, naming the key."""

    def __init__(self, value: object, where: str, invalid: type[ModelStoreError]) -> None:
        self.where = where
        self.invalid = invalid
        if not isinstance(value, dict):
            raise invalid(f"{where}: must be a JSON object, got {value!r:.40}")
        self.values: dict[str, object] = value

    def fail(self, key: str, expected: str) -> ModelStoreError:
        """The error that says what `key` must be; to be raised by the caller."""
        got = f"got {self.values[key]!r:.40}" if key in self.values else "but it is missing"
        return self.invalid(f"{self.where}: {key} must be {expected}, {got}")

    def only(self, *keys: str) -> None:
        """Refuse every key but `keys`."""
        unknown = sorted(set(self.values) - set(keys))
        if unknown:
            raise self.invalid(f"{self.where}: unknown key {unknown[0]!r:.40}")

    def integer(self, key: str) -> int:
        """An integer; booleans are none."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(key, "an integer")
        return value

    def number(self, key: str) -> float:
        """A finite number, integers included."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fail(key, "a number")
        try:
            return float(value)
        except OverflowError as error:
            raise self.fail(key, "a finite number") from error

    def optional_number(self, key: str) -> float | None:
        """A number, or None where the key is missing or null."""
        return None if self.values.get(key) is None else self.number(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A string; a key that is not there is an error unless there is a default."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.fail(key, "a string")
        return value

    def boolean(self, key: str) -> bool:
        """True or false."""
        value = self.values.get(key)
        if not isinstance(value, bool):
            raise self.fail(key, "true or false")
        return value

    def array(self, key: str) -> list[object]:
        """A list of anything."""
        value = self.values.get(key)
        if not isinstance(value, list):
            raise self.fail(key, "a list")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        items = self.array(key)
        inner = Fields({str(i): item for i, item in enumerate(items)}, f"{self.where}: {key}", self.invalid)
        return tuple(inner.number(str(i)) for i in range(len(items)))

    def object(self, key: str) -> Fields:
        """An object, with the same checks."""
        if not isinstance(self.values.get(key), dict):
            raise self.fail(key, "a JSON object")
        return Fields(self.values[key], f"{self.where}: {key}", self.invalid)

    def objects(self, key: str) -> list[Fields]:
        """A list of objects, with the same checks."""
        where = f"{self.where}: {key}"
        return [Fields(item, f"{where}[{i}]", self.invalid) for i, item in enumerate(self.array(key))]
