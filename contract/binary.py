"""Avro binary: written by fastavro, read by a plan of our own; what is generated falls back to both.

fastavro's own reader trusts the bytes: few of them take gigabytes, or end the process where a recursive schema nests.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import fastavro
import msgspec

from contract import resolution, wire
from contract.avro_schema import Recursion, Type, parse, run
from contract.errors import Reason, Refused, Unreadable
from contract.records import R, Record, check, explain, shorten
from contract.varint import FLOAT


def encode(value: Record) -> bytes:
    """Return the Avro binary of a record; raises Refused when it breaks its contract."""
    values = check(value)
    buffer = io.BytesIO()
    try:
        schema = _parsed_text(value.SCHEMA)
        _refuse_overflow(schema, values)
        fastavro.schemaless_writer(buffer, _writable(schema), values)
    except UnicodeEncodeError as error:
        where = next((name for name, text in values.items() if text is error.object), type(value).__name__)
        raise Refused(f"{where} is {shorten(error.object)}, which holds half of a surrogate pair: no text") from None
    except (OverflowError, ValueError, TypeError, ArithmeticError) as error:
        raise Refused(f"{type(value).__name__} does not fit its schema: {error}") from None
    return buffer.getvalue()


def decode(data: bytes, record: type[R], writer: str | Type, start: int = 0) -> R:
    """Return the record in Avro binary from `start` on, written with one schema and read with the record's own.

    Raises Unreadable: truncated, trailing bytes, malformed, not readable by this reader, or breaks a limit.
    """
    values = resolve(data, writer, record.SCHEMA, start)
    try:
        return msgspec.convert(values, record)
    except msgspec.ValidationError as error:
        raise Unreadable(Reason.BREAKS_LIMIT, explain(error, values)) from None


def resolve(data: bytes, writer: str | Type, reader: str | Type, start: int = 0) -> Any:
    """Return the plain values in Avro binary by the specification's schema resolution; raises Unreadable.

    Schemas are text as a registry has it, or parsed.
    """
    written, expected = (_parsed(schema) for schema in (writer, reader))
    values, end = wire.read(data, start, _plan(expected, written))
    if end != len(data):
        raise Unreadable(Reason.TRAILING_BYTES, f"{len(data) - end} bytes are left behind the record")
    return values


def parse_writer(text: str, references: Mapping[str, str] | None = None) -> Type:
    """Return a writer's schema as `decode` takes it; `references` are texts by name, each after those that it uses.

    Raises Unreadable where it is no Avro schema: no later try would make it one.
    """
    try:
        used = {name: json.loads(reference) for name, reference in (references or {}).items()}
        return parse(json.loads(text), used)
    except (ValueError, RecursionError) as error:
        raise _unusable(error) from None


def _unusable(error: Exception) -> Unreadable:
    why = str(error)[:_LONGEST_REASON]
    why = why if why.isprintable() else ascii(why)[1:-1]
    return Unreadable(Reason.NOT_READABLE, f"what wrote it is no Avro schema that can be used: {why}")


_LONGEST_REASON = 300  # characters: it quotes the schema
_KEPT = 100  # schemas, and pairs of them
_plan = lru_cache(_KEPT)(resolution.plan)


@lru_cache(_KEPT)
def _parsed_or_not(text: str) -> Type | str:
    """Return a schema, or why it is none: that, too, is found out once."""
    try:
        return parse_writer(text)
    except Unreadable as error:
        return str(error)


def _parsed_text(text: str) -> Type:
    found = _parsed_or_not(text)
    if isinstance(found, str):
        raise Unreadable(Reason.NOT_READABLE, found)
    return found


@lru_cache(_KEPT)
def _writable(schema: Type) -> Any:
    """Return a schema as fastavro parses it, with no more than decides the bytes: it refuses what Avro ignores."""
    return fastavro.parse_schema(run(_plain, schema, set()))


def _plain(type_: Type, known: set[Type]) -> Recursion[Any]:
    # fastavro looks for a name without a namespace in that of the type around it alone.
    name = type_.name if "." in type_.name else f"_.{type_.name}"
    if type_ in known:
        return name
    if type_.name:
        known.add(type_)
    match type_.kind:
        case "union":
            branches = []
            for branch in type_.parts:
                branches += [(yield branch, known)]
            return branches
        case "array" | "map" as kind:
            return {"type": kind, "items" if kind == "array" else "values": (yield type_.parts[0], known)}
        case "record":
            fields = []
            for field in type_.fields.values():
                fields += [{"name": field.name, "type": (yield field.type, known)}]
            return {"type": "record", "name": name, "fields": fields}
        case "enum":
            return {"type": "enum", "name": name, "symbols": type_.symbols}
        case kind:
            found: dict[str, Any] = {"type": kind, **({"name": name, "size": type_.size} if kind == "fixed" else {})}
            words = ("logicalType", "precision", "scale") if type_.logical else ()
            found |= {word: type_.attributes[word] for word in words if word in type_.attributes}
            return found if len(found) > 1 else kind


def _refuse_overflow(schema: Type, values: Mapping[str, Any]) -> None:
    """Raise OverflowError for what a float cannot hold, which fastavro writes as infinity."""
    for field in schema.fields.values():
        if any(part.kind == "float" for part in (field.type, *field.type.parts)):
            value = values[field.name]
            if isinstance(value, float):
                FLOAT.pack(value)


def _parsed(schema: str | Type) -> Type:
    return schema if isinstance(schema, Type) else _parsed_text(schema)
