"""Avro binary by fastavro: the reference that the generated encoders and decoders are held to, and their fallback."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import fastavro
import msgspec
from fastavro.schema import SchemaParseException, parse_schema
from fastavro.types import Schema

from contract.avro_schema import Recursion, Type, parse, run
from contract.errors import NotRegistered, Reason, Refused, Unreadable
from contract.records import R, Record, check, explain, shorten
from contract.varint import FLOAT


def encode(value: Record) -> bytes:
    """Give the Avro binary of a record; raises Refused when it breaks its contract."""
    values = check(value)
    buffer = io.BytesIO()
    try:
        schema = _parsed(value.SCHEMA)
        _refuse_overflow(schema, values)
        fastavro.schemaless_writer(buffer, schema, values)
    except UnicodeEncodeError as error:
        where = next((name for name, text in values.items() if text is error.object), type(value).__name__)
        raise Refused(f"{where} is {shorten(error.object)}, which holds half of a surrogate pair: no text") from None
    except (OverflowError, ValueError, TypeError, ArithmeticError) as error:
        raise Refused(f"{type(value).__name__} does not fit its schema: {error}") from None
    return buffer.getvalue()


def decode(data: bytes, record: type[R], writer: str | Type, start: int = 0) -> R:
    """Give the record in Avro binary from `start` on, written with one schema and read with the record's own.

    Raises Unreadable: truncated, trailing bytes, malformed, not readable by this reader, or breaks a limit.
    """
    values = resolve(data, writer, record.SCHEMA, start)
    try:
        return msgspec.convert(values, record)
    except msgspec.ValidationError as error:
        raise Unreadable(Reason.BREAKS_LIMIT, explain(error, values)) from None


def resolve(data: bytes, writer: str | Type | Schema, reader: str | Schema, start: int = 0) -> Any:
    """Give the plain values in Avro binary by the specification's schema resolution; raises Unreadable.

    Schemas are text as a registry has it, or parsed, here or by fastavro.
    """
    buffer = io.BytesIO(data)
    buffer.seek(start)
    written = _writable(writer) if isinstance(writer, Type) else writer
    written, read = (_parsed(schema) if isinstance(schema, str) else schema for schema in (written, reader))
    try:
        values = fastavro.schemaless_reader(buffer, written, read)
    except EOFError:
        raise Unreadable(Reason.TRUNCATED, f"its {len(data)} bytes end inside the record") from None
    except fastavro.read.SchemaResolutionError as error:
        raise Unreadable(Reason.NOT_READABLE, f"this reader's schema does not resolve it: {error}") from None
    except (ValueError, LookupError, OverflowError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise Unreadable(Reason.MALFORMED, f"no writer of its schema wrote these bytes: {error}") from None
    if buffer.tell() != len(data):
        raise Unreadable(Reason.TRAILING_BYTES, f"{len(data) - buffer.tell()} bytes are left behind the record")
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


@lru_cache(maxsize=100)
def _writable(schema: Type) -> Schema:
    """Return a schema as fastavro parses it, with no more than decides the bytes: it refuses what Avro ignores."""
    try:
        return parse_schema(run(_plain, schema, set()))
    except (SchemaParseException, ValueError, RecursionError) as error:
        raise _unusable(error) from None


def _plain(type_: Type, known: set[Type]) -> Recursion[Any]:
    if type_ in known:
        return type_.name
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
            return {"type": "record", "name": type_.name, "fields": fields}
        case "enum":
            return {"type": "enum", "name": type_.name, "symbols": type_.symbols}
        case kind:
            found: dict[str, Any] = {
                "type": kind,
                **({"name": type_.name, "size": type_.size} if kind == "fixed" else {}),
            }
            words = ("logicalType", "precision", "scale")
            return found | {word: type_.attributes[word] for word in words if word in type_.attributes}


def _refuse_overflow(schema: Any, values: Mapping[str, Any]) -> None:
    """Raise OverflowError for what a float cannot hold, which fastavro writes as infinity."""
    for field in schema["fields"]:
        if field["type"] == "float":
            FLOAT.pack(values[field["name"]])


@lru_cache(maxsize=100)
def _parsed(text: str) -> Schema:
    try:
        return parse_schema(json.loads(text))
    except (SchemaParseException, ValueError) as error:
        raise NotRegistered(f"the registry holds a schema that is not valid Avro: {error}") from None
