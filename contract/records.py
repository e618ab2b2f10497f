"""What every generated type is, and how a value is checked against its contract.

msgspec checks types and limits while it builds a record from outside data and checks nothing in the constructor,
so a record is checked where it enters (`build`) and once more by the serializer (`check`).
"""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from contract.errors import Refused


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A released version of a contract as a Python type; the subclasses are generated."""

    VERSION: ClassVar[int]
    SCHEMA: ClassVar[str]
    """The released Avro schema as compact JSON, exactly as it is sent to a registry."""

    DECODERS: ClassVar[Mapping[str, Callable[[bytes, int], Any]]] = {}
    """By a writer's schema: the method that gives the record in its bytes, from an index to the end.

    It gives None for what is not plainly valid, or raises one of contract.codec.NOT_PLAIN: contract/binary.py decides.
    """

    def encode_fast(self, frame: bytes) -> bytes | None:
        """Give a frame and behind it the Avro binary of a plainly valid record, else None: contract/binary.py decides.

        For what is not plainly valid it may also raise one of contract.codec.NOT_PLAIN.
        """
        del frame
        return None


R = TypeVar("R", bound=Record)

_LONGEST_LIMIT = 200
# Avro's logical types as they are read, and as fastavro writes them: passed through instead of turned into strings.
_AS_THEY_ARE = (bytes, datetime.datetime, datetime.date, datetime.time, decimal.Decimal, uuid.UUID)


def build(record: type[R], values: object, *, from_text: bool = False) -> R:
    """Make a checked record of plain values, a mapping by field name.

    `from_text` also takes numbers written as text, as a CSV file or a command line has them.
    Raises Refused, which names the field, the value and the limit.
    """
    try:
        return msgspec.convert(values, record, strict=not from_text)
    except msgspec.ValidationError as error:
        raise Refused(explain(error, values)) from None


def check(value: Record) -> dict[str, Any]:
    """Give the record's fields as plain values for an Avro writer, after checking them against the contract.

    Raises Refused, which names the field, the value and the limit.
    """
    try:
        values: dict[str, Any] = msgspec.to_builtins(value, builtin_types=_AS_THEY_ARE)
    except TypeError as error:
        raise Refused(f"{type(value).__name__} holds a value that no schema describes: {error}") from None
    build(type(value), values)
    return values


def explain(error: msgspec.ValidationError, values: object) -> str:
    """Say in a sentence which field was refused, its value and the limit, as in `table is 0, expected int >= 1`.

    msgspec names the limit and the place (`Expected `int` >= 1 - at `$.table``); the value is looked up there.
    """
    limit, _, place = str(error).replace("`", "").partition(" - at $")
    # It may quote the name of a field, which is whatever a sender has written.
    limit = limit[0].lower() + (limit if limit.isprintable() else ascii(limit)[1:-1])[1:_LONGEST_LIMIT]
    if not place:
        return limit if isinstance(values, Mapping) else f"{limit}: {shorten(values)}"
    value = values
    for name, index in re.findall(r"\.(\w+)|\[(\d+|\.{3})\]", place):
        if isinstance(value, Mapping) and name:
            value = value.get(name)
        elif isinstance(value, Sequence) and index.isdigit():
            value = value[int(index)]
        else:  # inside a mapping's key or value, where msgspec gives no name
            break
    return f"{place.lstrip('.')} is {shorten(value)}, {limit}"


def shorten(value: object, width: int = 40) -> str:
    """Show a value in at most some `width` characters, control characters escaped, with its length if it is cut."""
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    if len(shown) <= width:
        return shown
    length = f" ({len(value)} characters)" if isinstance(value, str) else ""
    return f"{shown[: width - 1]}…{length}"
