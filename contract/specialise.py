"""Writes encoders and decoders specialised to one version, limits inline, for records of primitives.

They take what is valid, as fast as Python can, and give None for everything else; contract/binary.py then
reads, writes or refuses it. So they need not know any error, and a test holds both equal byte for byte.
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


OURS = "\u00b7"
"""In a name, it can be none of Avro's: a middle dot, which Python takes anywhere but at the beginning.

What a module imports ends with it; what stands for a field in a method has it inside.
"""


def encoder(record: Type) -> list[str]:
    """Give the lines of `encode_fast` for a record, none when it holds more than primitives."""
    fields = _fields(record)
    if not fields:
        return []
    parts = ", ".join(field.part() for field in fields)
    take = [line for field in fields for line in field.take()]
    method = [f"def encode_fast(self, frame: bytes{OURS}) -> bytes{OURS} | None:", *_indent(take)]
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
    values = ", ".join(f"{one}={_local(one)}" if by_name else _local(one) for one in present)
    method = [
        f"@classmethod{OURS}",
        f"def {name}(cls, data: bytes{OURS}, at: int{OURS}) -> Self{OURS} | None:",
        *_indent(read),
    ]
    return [
        "",
        *_indent([*method, f"    if {at} != len{OURS}(data):", "        return None", f"    return cls({values})"]),
    ]


def _fields(record: Type) -> list[_Field]:
    """Return a record's fields, none when one of them is no primitive."""
    fields = [_Field(field) for field in record.fields.values()]
    return fields if all(field.is_primitive for field in fields) else []


def _local(field: str) -> str:
    """Return what a field is called in a method, where no name of ours is."""
    return f"f{OURS}{field}"


class _Field:
    """The lines for one field; each leaves the method with None where the value is not plainly valid."""

    def __init__(self, field: Field) -> None:
        type_, stated = field.type, (field.attributes, field.type.attributes)
        self.name = field.name
        self._local = _local(field.name)
        self.kind = type_.kind
        self.is_primitive = not type_.logical and self.kind in {*_INTEGERS, *_LENGTHS, *_REALS, "boolean"}
        (_, self._least), (_, self._most) = bounds(type_.kind, *stated) or (("", -math.inf), ("", math.inf))
        # Under another name it may be there all the same; and what breaks its own limit is the careful way's to refuse.
        default = field.default
        self.may_be_absent = not field.aliases and is_value(type_, default) and allows(type_.kind, default, *stated)

    def take(self) -> list[str]:
        """Take the field from the record and check type and limits."""
        name = self._local
        python = {"boolean": "bool", **dict.fromkeys(_INTEGERS, "int"), **dict.fromkeys(_REALS, "float"), **_LENGTHS}
        refuse = [f"type{OURS}({name}) is not {python[self.kind]}{OURS}", *self._breaks()]
        lines = [f"{name} = self.{self.name}", f"if {' or '.join(refuse)}:", "    return None"]
        if self.kind == "string":
            lines.append(f"{name}{OURS}utf8 = {name}.encode()")
        return lines

    def part(self) -> str:
        """Give the expressions of the field's Avro binary."""
        name = self._local
        if self.kind in _LENGTHS:
            data = f"{name}{OURS}utf8" if self.kind == "string" else name
            most = self._most * (_UTF8_MOST if self.kind == "string" else 1)
            length = f"{'TABLE' if most < len(TABLE) else 'varint'}{OURS}"
            length += f"[len{OURS}({data})]" if most < len(TABLE) else f"(len{OURS}({data}))"
            return f"{length}, {data}"
        if self.kind in _INTEGERS:
            return f"TABLE{OURS}[{name}] if 0 <= {name} < {len(TABLE)} else varint{OURS}({name})"
        if self.kind == "boolean":
            return f'b"\\x01" if {name} else b"\\x00"'
        return f"{_REALS[self.kind][0]}{OURS}.pack({name})"

    @property
    def end(self) -> str:
        """The variable that is behind the field once it is read."""
        return "end" if self.kind in _LENGTHS else "at"

    def read(self, at: str) -> list[str]:
        """Read the field from `data` at a variable, check its limits, and go on behind it."""
        name = self._local
        if self.kind == "boolean":
            return [f"{name} = data[{at}] == 1", *self.skip(at)]
        if self.kind in _REALS:
            return [f"({name},) = {_REALS[self.kind][0]}{OURS}.unpack_from(data, {at})", *self._refuse(self._breaks()),
                    *self.skip(at)]  # fmt: skip
        if self.kind in _INTEGERS:
            signed = [] if self._least >= 0 else ["if byte & 1:", f"    {name} = ~{name}"]
            return [*self._number(name, at, signed=bool(signed)), *signed, *self._refuse(self._breaks())]
        value = "data[at:end]" + (".decode()" if self.kind == "string" else "")
        return [*self._number("size", at), "end = at + size", f"{name} = {value}", *self._refuse(self._breaks())]

    def skip(self, at: str) -> list[str]:
        """Pass over the field."""
        if self.kind == "boolean":
            return [*self._refuse([f"data[{at}] > 1"]), f"at = {at} + 1"]
        if self.kind in _REALS:
            return [f"at = {at} + {_REALS[self.kind][1]}"]
        behind = ["end = at + size"] if self.kind in _LENGTHS else []
        return self._number("size", at, signed=not behind) + behind

    def _number(self, name: str, at: str, *, signed: bool = False) -> list[str]:
        """Read a varint of one or two bytes on the spot: a call would take as long as the rest of the field.

        A signed one comes without its sign; of those that are not, a negative one ends in a TypeError.
        """
        bits = 32 if self.kind == "int" else 64
        return [
            f"byte = data[{at}]", f"{name} = {'MAGNITUDE' if signed else 'NON_NEGATIVE'}{OURS}[byte]", f"at = {at} + 1",
            "if byte > 127:", f"    {name} += data[at] << 6", "    at += 1",
            f"    if {name} > 8191:", f"        {name}, at = read_varint{OURS}(data, at - 2, {bits})",
        ]  # fmt: skip

    def _refuse(self, breaks: list[str]) -> list[str]:
        return [f"if {' or '.join(breaks)}:", "    return None"] if breaks else []

    def _breaks(self) -> list[str]:
        """Give the conditions under which a value breaks a limit, Avro's own among them."""
        what = f"len{OURS}({self._local})" if self.kind in _LENGTHS else self._local
        low = f"{self._least!r} <= " if math.isfinite(self._least) and (self._least or what == self._local) else ""
        high = f" <= {self._most!r}" if math.isfinite(self._most) else ""
        return [f"not {low}{what}{high}"] if low or high else []


def _indent(lines: Any) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]
