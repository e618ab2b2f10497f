"""Rows of a ledger as records of this version, whichever version has written them.

A row keeps its record as JSON. After a rollback, that may have what this version does not know: further fields, values
beyond its limits, other symbols of an enum.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

_fields = cache(fields)


def read_leniently(kind: Any, stored: Any) -> Any:
    """Return a JSON value as one of `kind`, limits aside; unknown fields are left out, other misfits stay as they are.

    Raises TypeError for a record that lacks a field without a default.
    """
    plain, inner = _plain(kind)
    if isinstance(stored, dict) and _is_record(plain):
        known = {one.name: one for one in _fields(plain) if one.encode_name in stored}
        return plain(**{name: read_leniently(one.type, stored[one.encode_name]) for name, one in known.items()})
    if isinstance(stored, dict) and plain is dict:
        return {key: read_leniently(inner[1], value) for key, value in stored.items()}
    if isinstance(stored, list) and plain is list:
        return [read_leniently(inner[0], value) for value in stored]
    try:
        return msgspec.json.decode(msgspec.json.encode(stored), type=plain if inner == () else kind)
    except msgspec.ValidationError:
        return stored


def agrees(kind: Any, value: Any, stored: Any) -> bool:
    """Whether a value of `kind` is the stored JSON value, in all that this version knows.

    A field that is not stored counts as its default, as Avro reads it. An enum's symbol that this version does not know
    is read as some other one, so it agrees with all.
    """
    plain, inner = _plain(kind)
    if isinstance(value, msgspec.Struct):
        return isinstance(stored, dict) and all(
            agrees(one.type, getattr(value, one.name), stored.get(one.encode_name, _default(one)))
            for one in _fields(type(value))
        )
    if isinstance(value, dict):
        same = isinstance(stored, dict) and value.keys() == stored.keys()
        return same and all(agrees(inner[1], value[key], stored[key]) for key in value)
    if isinstance(value, list):
        same = isinstance(stored, list) and len(value) == len(stored)
        return same and all(agrees(inner[0], *pair) for pair in zip(value, stored, strict=True))
    if plain is Literal and isinstance(stored, str) and stored not in inner:
        return True
    return bool(_json(value) == stored)


def _plain(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without its limits and without null, and what it is made of."""
    while get_origin(kind) in {Annotated, Union, types.UnionType}:
        kind = next(one for one in get_args(kind) if one is not types.NoneType)
    return get_origin(kind) or kind, get_args(kind)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _default(field: FieldInfo) -> Any:
    made = field.default_factory
    return _json(field.default if made is msgspec.NODEFAULT else made())


def _json(value: Any) -> Any:
    return None if value is msgspec.NODEFAULT else msgspec.json.decode(msgspec.json.encode(value))
