"""Writes encoders and decoders specialised to one version, limits inline, for records of primitives.

They take what is valid, as fast as Python can, and give None for everything else; the codec then asks fastavro, which
reads or refuses it. So they need not know any error, and a test holds both equal byte for byte.
"""

from __future__ import annotations

import math
from typing import Any

from contract.avro_schema import Field, Type, is_value
from contract.limits import allows, bounds
from contract.varint import TABLE

_INTEGERS = {"int", "long"}
_LENGTHS = {"string": "str", "bytes": "bytes"}
_REALS = {"float": ("FLOAT", 4), "double": ("DOUBLE", 8)}
_UTF8_MOST = 4  # bytes a character


# What the methods themselves use; a record with a field of such a name is left to fastavro.
_OURS = {"self", "cls", "frame", "data", "at", "end", "byte", "size", "len", "type", "bool", "int", "float", "str"}
_OURS |= {"bytes", "TABLE", "MAGNITUDE", "NON_NEGATIVE", "FLOAT", "DOUBLE", "varint", "read_varint"}


def encoder(record: Type) -> list[str]:
    """Give the lines of `encode_fast` for a record, none when it holds more than primitives."""
    fields = _fields(record)
    if not fields:
        return []
    parts = ", ".join(field.part() for field in fields)
    take = [line for field in fields for line in field.take()]
    method = ["def encode_fast(self, frame: bytes) -> bytes | None:", *_indent(take)]
    return ["", *_indent([*method, f'    return b"".join((frame, {parts}))'])]


def decoder(name: str, reader: Type, writer: Type, *, keywords: bool) -> list[str]:
    """Give the lines of a method that reads with one schema what another wrote, or the same.

    None when either holds more than primitives, or when they differ by more than fields that one of them lacks.
    `keywords` tells whether the record is made with keywords only.
    """
    wanted = {field.name: field for field in _fields(reader)}
    written = _fields(writer)
    kinds = {field.name: field.kind for field in written}
    absent = [field for one, field in wanted.items() if one not in kinds]
    if (
        not wanted
        or not written
        or reader.name != writer.name
        or not all(field.may_be_absent for field in absent)
        or any(field.kind != kinds.get(one, field.kind) for one, field in wanted.items())
    ):
        return []
    at, read = "at", list[str]()
    for field in written:
        read += wanted[field.name].read(at) if field.name in wanted else field.skip(at)
        at = field.end
    present = [one for one in wanted if one in kinds]
    by_name = keywords or present != list(wanted)[: len(present)]
    values = ", ".join(f"{one}={one}" if by_name else one for one in present)
    method = ["@classmethod", f"def {name}(cls, data: bytes, at: int) -> Self | None:", *_indent(read)]
    return ["", *_indent([*method, f"    if {at} != len(data):", "        return None", f"    return cls({values})"])]


def _fields(record: Type) -> list[_Field]:
    """Give a record's fields, none when one of them is no primitive or is called as what the methods themselves use."""
    fields = [_Field(field) for field in record.fields.values()]
    names = {field.name for field in fields} | {f"{field.name}_utf8" for field in fields}
    plain = len(names) == 2 * len(fields) and not names & _OURS and all(field.is_primitive for field in fields)
    return fields if plain else []


class _Field:
    """The lines for one field; each leaves the method with None where the value is not plainly valid."""

    def __init__(self, field: Field) -> None:
        type_, stated = field.type, (field.attributes, field.type.attributes)
        self.name = field.name
        self.kind = type_.kind
        self.is_primitive = "logicalType" not in type_.attributes and (
            self.kind in {*_INTEGERS, *_LENGTHS, *_REALS, "boolean"}
        )
        (_, self._least), (_, self._most) = bounds(type_.kind, *stated) or (("", -math.inf), ("", math.inf))
        # Under another name it may be there all the same; and what breaks its own limit is fastavro's to refuse.
        default = field.default
        self.may_be_absent = not field.aliases and is_value(type_, default) and allows(type_.kind, default, *stated)

    def take(self) -> list[str]:
        """Take the field from the record and check type and limits."""
        lines = [f"{self.name} = self.{self.name}"]
        python = {"boolean": "bool", **dict.fromkeys(_INTEGERS, "int"), **dict.fromkeys(_REALS, "float")}
        refuse = [f"type({self.name}) is not {_LENGTHS.get(self.kind) or python[self.kind]}", *self._breaks()]
        lines += [f"if {' or '.join(refuse)}:", "    return None"]
        if self.kind == "string":
            lines.append(f"{self.name}_utf8 = {self.name}.encode()")
        return lines

    def part(self) -> str:
        """Give the expressions of the field's Avro binary."""
        name = self.name
        if self.kind in _LENGTHS:
            data = f"{name}_utf8" if self.kind == "string" else name
            most = self._most * (_UTF8_MOST if self.kind == "string" else 1)
            length = f"TABLE[len({data})]" if most < len(TABLE) else f"varint(len({data}))"
            return f"{length}, {data}"
        if self.kind in _INTEGERS:
            return f"TABLE[{name}] if 0 <= {name} < {len(TABLE)} else varint({name})"
        if self.kind == "boolean":
            return f'b"\\x01" if {name} else b"\\x00"'
        return f"{_REALS[self.kind][0]}.pack({name})"

    @property
    def end(self) -> str:
        """The variable that is behind the field once it is read."""
        return "end" if self.kind in _LENGTHS else "at"

    def read(self, at: str) -> list[str]:
        """Read the field from `data` at a variable, check its limits, and go on behind it."""
        name = self.name
        if self.kind == "boolean":
            return [f"{name} = data[{at}] == 1", *self.skip(at)]
        if self.kind in _REALS:
            return [f"({name},) = {_REALS[self.kind][0]}.unpack_from(data, {at})", *self._refuse(self._breaks()),
                    *self.skip(at)]  # fmt: skip
        if self.kind in _INTEGERS:
            signed = [] if self._least >= 0 else ["if byte & 1:", f"    {name} = ~{name}"]
            return [*_number(name, at, signed=bool(signed)), *signed, *self._refuse(self._breaks())]
        value = "data[at:end]" + (".decode()" if self.kind == "string" else "")
        return [*_number("size", at), "end = at + size", f"{name} = {value}", *self._refuse(self._breaks())]

    def skip(self, at: str) -> list[str]:
        """Pass over the field."""
        if self.kind == "boolean":
            return [*self._refuse([f"data[{at}] > 1"]), f"at = {at} + 1"]
        if self.kind in _REALS:
            return [f"at = {at} + {_REALS[self.kind][1]}"]
        behind = ["end = at + size"] if self.kind in _LENGTHS else []
        return _number("size", at, signed=not behind) + behind

    def _refuse(self, breaks: list[str]) -> list[str]:
        return [f"if {' or '.join(breaks)}:", "    return None"] if breaks else []

    def _breaks(self) -> list[str]:
        """Give the conditions under which a value breaks a limit, Avro's own among them."""
        what = f"len({self.name})" if self.kind in _LENGTHS else self.name
        low = f"{self._least!r} <= " if math.isfinite(self._least) and (self._least or what == self.name) else ""
        high = f" <= {self._most!r}" if math.isfinite(self._most) else ""
        return [f"not {low}{what}{high}"] if low or high else []


def _number(name: str, at: str, *, signed: bool = False) -> list[str]:
    """Read a varint of one or two bytes on the spot: a call would take as long as the rest of the field.

    A signed one comes without its sign; of those that are not, a negative one ends in a TypeError.
    """
    return [
        f"byte = data[{at}]", f"{name} = {'MAGNITUDE' if signed else 'NON_NEGATIVE'}[byte]", f"at = {at} + 1",
        "if byte > 127:", f"    {name} += data[at] << 6", "    at += 1",
        f"    if {name} > 8191:", f"        {name}, at = read_varint(data, at - 2)",
    ]  # fmt: skip


def _indent(lines: Any) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]
