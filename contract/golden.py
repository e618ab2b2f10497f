"""Makes golden bytes: records at the ends of a version's limits, with the Avro binary that they must always have.

They are written once, when a version is released, and then hold every later encoder, decoder and reader to it.
"""

from __future__ import annotations

import datetime
import io
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from contract.avro_schema import Type, parse
from contract.binary import resolve
from contract.errors import ContractError, Unreadable
from contract.limits import AVROS, bounds
from contract.subjects import SchemaFile


@dataclass(frozen=True)
class Golden:
    """One record as plain values, logical types as their underlying ones, and its Avro binary, unframed."""

    value: Any
    avro: bytes


def golden_path(version: SchemaFile) -> Path:
    """Where a released version's golden bytes are kept: beside its schema."""
    return version.path.with_suffix(".golden.json")


def make_golden(schema: Any, references: Mapping[str, Any] | None = None) -> tuple[Golden, ...]:
    """Give the smallest and the largest value that a schema and its limits allow; nothing for a type without an end.

    `references` are the schemas whose types it uses. Raises ContractError for one that fastavro does not take.
    """
    parsed = _fastavro(_without_logical_types(schema), _without_logical_types(references or {}))
    values = _Values().ends(parse(schema, references), {})
    return tuple(Golden(value, _encode(parsed, value)) for value in values or ())


def read_golden(version: SchemaFile) -> tuple[Golden, ...]:
    """Read the golden bytes of a released version; raises ContractError when there are none."""
    path = golden_path(version)
    try:
        found = tuple(Golden(one["value"], bytes.fromhex(one["avro"])) for one in json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ContractError(f"{path} is not a list of golden records: {error}; restore the file") from None
    if not found:
        raise ContractError(f"{path} holds no golden records; restore the file")
    return found


def golden_of(version: SchemaFile) -> tuple[Golden, ...]:
    """Make the golden bytes of a version."""
    return make_golden(version.schema, {name: used.schema for name, used in version.bundle.items()})


def write_golden(version: SchemaFile) -> Path:
    """Write the golden bytes of a version that is being released."""
    path = golden_path(version)
    records = [{"value": one.value, "avro": one.avro.hex()} for one in golden_of(version)]
    text = json.dumps(records, indent=1, ensure_ascii=False, default=lambda raw: raw.decode("latin-1"))
    path.write_text(text + "\n", "utf-8")
    return path


def decode_golden(golden: Golden, reader: SchemaFile, writer: SchemaFile) -> str | None:
    """Really decode golden bytes as a reader does, and give why it cannot; None when it can."""
    try:
        resolve(golden.avro, _parsed(writer), _parsed(reader))
    except Unreadable as error:
        return str(error)
    return None


@lru_cache(maxsize=512)
def _parsed(file: SchemaFile) -> Any:
    return _fastavro(file.schema, {name: used.schema for name, used in file.bundle.items()})


def _fastavro(schema: Any, references: Mapping[str, Any]) -> Any:
    named: dict[str, Any] = {}
    try:
        for reference in references.values():
            fastavro.parse_schema(reference, named)
        return fastavro.parse_schema(schema, named)
    except (SchemaParseException, UnknownType, ValueError) as error:
        raise ContractError(f"fastavro does not take the schema: {error}") from None


def _encode(schema: Any, value: Any) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, value)
    return buffer.getvalue()


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_logical_types(value) for name, value in schema.items() if name != "logicalType"}
    return [_without_logical_types(branch) for branch in schema] if isinstance(schema, list) else schema


# Python's dates end sooner than Avro's numbers do, and a UUID is not any text.
_DAYS = [day.toordinal() - datetime.date(1970, 1, 1).toordinal() for day in (datetime.date.min, datetime.date.max)]
_DAY_MILLIS = 24 * 60 * 60 * 1000
_MILLIS = (_DAYS[0] * _DAY_MILLIS, (_DAYS[1] + 1) * _DAY_MILLIS - 1)
_MICROS = (_DAYS[0] * _DAY_MILLIS * 1000, (_DAYS[1] + 1) * _DAY_MILLIS * 1000 - 1)
_LOGICAL: Mapping[tuple[str, str], tuple[Any, Any]] = {
    ("int", "date"): (_DAYS[0], _DAYS[1]),
    ("int", "time-millis"): (0, _DAY_MILLIS - 1),
    ("long", "time-micros"): (0, _DAY_MILLIS * 1000 - 1),
    ("long", "timestamp-millis"): _MILLIS,
    ("long", "timestamp-micros"): _MICROS,
    ("long", "local-timestamp-millis"): _MILLIS,
    ("long", "local-timestamp-micros"): _MICROS,
    ("string", "uuid"): (str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1))),
}


class _Values:
    """The two ends of every type: what is least, and what is most, within the limits beside it.

    None stands for a type that is inside itself: unions take another branch there, arrays and maps stay empty.
    """

    def __init__(self) -> None:
        self._inside: list[Type] = []
        self._items = 3  # of an array that is in no other, or they would multiply

    def ends(self, type_: Type, limits: Mapping[str, Any]) -> tuple[Any, Any] | None:
        limits = {**type_.attributes, **limits}
        if logical := _LOGICAL.get((type_.kind, str(type_.attributes.get("logicalType")))):
            return logical
        match type_.kind:
            case "union":
                return self._union(type_, limits)
            case "record":
                return self._record(type_)
            case "array":
                depth, self._items = self._items, 1
                ends = self.ends(type_.parts[0], {})
                self._items = depth
                least, most = _sizes("array", limits, depth)
                return ([ends[0]] * least, [ends[1]] * most) if ends else ([], [])
            case "map":
                ends = self.ends(type_.parts[0], {})
                return {}, {"key": ends[1]} if ends else {}
            case _:
                return self._plain(type_, limits)

    def _union(self, type_: Type, limits: Mapping[str, Any]) -> tuple[Any, Any] | None:
        found = []
        for branch in type_.parts:
            ends = self.ends(branch, limits)
            found += [] if ends is None else [ends]
        return (found[0][0], found[-1][1]) if found else None

    def _record(self, type_: Type) -> tuple[Any, Any] | None:
        if type_ in self._inside:
            return None
        self._inside.append(type_)
        least, most = {}, {}
        for field in type_.fields.values():
            ends = self.ends(field.type, field.attributes)
            if ends is not None:
                least[field.name], most[field.name] = ends
        self._inside.pop()
        return (least, most) if len(least) == len(type_.fields) else None

    def _plain(self, type_: Type, limits: Mapping[str, Any]) -> tuple[Any, Any]:
        match type_.kind:
            case "int" | "long" | "float" | "double":
                return _numbers(type_.kind, limits)
            case "string":
                shortest, longest = _sizes("string", limits, 100)
                return "a" * shortest, "é" * longest
            case "bytes":
                shortest, longest = _sizes("bytes", limits, 100)
                return bytes(shortest), b"\xff" * longest
            case "fixed":
                return bytes(type_.size), b"\xff" * type_.size
            case "enum":
                return (type_.symbols[0], type_.symbols[-1]) if type_.symbols else ("", "")
            case kind:
                return (None, None) if kind == "null" else (False, True)


def _numbers(kind: str, limits: Mapping[str, Any]) -> tuple[float, float]:
    (_, least), (_, greatest) = bounds(kind, limits) or AVROS[kind]
    if kind in {"int", "long"}:
        return least, greatest
    low = least if math.isfinite(least) else min(-1.5, greatest)
    return float(low), float(greatest if math.isfinite(greatest) else max(1.5, low))


def _sizes(kind: str, limits: Mapping[str, Any], enough: int) -> tuple[int, int]:
    """Give the least and the greatest size; where no limit says how great, one that is enough."""
    (_, least), (_, greatest) = bounds(kind, limits) or AVROS[kind]
    return int(least), int(max(least, min(greatest, enough if math.isinf(greatest) else 10_000)))
