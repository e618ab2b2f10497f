"""Writes an encoder and a decoder specialised to one version, limits inline, for records of primitives.

They take what is valid, as fast as Python can, and give None for everything else; the codec then asks fastavro, which
reads or refuses it. So they need not know any error, and a test holds both equal byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.varint import TABLE

_INTEGERS = {"int": 31, "long": 63}
_LENGTHS = {"string": "str", "bytes": "bytes"}
_REALS = {"float": ("FLOAT", 4), "double": ("DOUBLE", 8)}
_UTF8_MOST = 4  # bytes a character


# What the methods themselves use; a record with a field of such a name is left to fastavro.
_OURS = {"self", "cls", "data", "at", "end", "number", "len", "type", "bool", "int", "float", "str", "bytes"}
_OURS |= {"TABLE", "FLOAT", "DOUBLE", "varint", "read_varint"}


def methods(schema: Mapping[str, Any], *, keywords: bool) -> list[str]:
    """Give the lines of `encode_fast` and `decode_fast` for a record, none when it holds more than primitives.

    `keywords` tells whether the record is made with keywords only.
    """
    fields = [_Field(field) for field in schema["fields"]]
    names = {field.name for field in fields} | {f"{field.name}_utf8" for field in fields}
    if not fields or len(names) < 2 * len(fields) or names & _OURS or not all(field.is_primitive for field in fields):
        return []
    parts = " + ".join(field.part() for field in fields)
    encode = ["def encode_fast(self) -> bytes | None:", *_indent(line for field in fields for line in field.take())]
    decode = [
        "@classmethod",
        "def decode_fast(cls, data: bytes, at: int) -> Self | None:",
        *_indent(line for field in fields for line in field.read()),
        "    if at != len(data):",
        "        return None",
        f"    return cls({', '.join(f'{field.name}={field.name}' if keywords else field.name for field in fields)})",
    ]
    return ["", *_indent([*encode, f"    return {parts}", "", *decode])]


class _Field:
    """The lines for one field; each leaves the method with None where the value is not plainly valid."""

    def __init__(self, field: Mapping[str, Any]) -> None:
        kind = field["type"]
        self._limits = dict(field)
        if isinstance(kind, dict) and isinstance(kind.get("type"), str) and "logicalType" not in kind:
            self._limits = {**kind, **field}
            kind = kind["type"]
        self.name = field["name"]
        self._kind = kind if isinstance(kind, str) else ""
        self.is_primitive = self._kind in {*_INTEGERS, *_LENGTHS, *_REALS, "boolean"}

    def take(self) -> list[str]:
        """Take the field from the record and check type and limits."""
        lines = [f"{self.name} = self.{self.name}"]
        python = {"boolean": "bool", **dict.fromkeys(_INTEGERS, "int"), **dict.fromkeys(_REALS, "float")}
        refuse = [f"type({self.name}) is not {_LENGTHS.get(self._kind) or python[self._kind]}", *self._breaks()]
        lines += [f"if {' or '.join(refuse)}:", "    return None"]
        if self._kind == "string":
            lines.append(f"{self.name}_utf8 = {self.name}.encode()")
        return lines

    def part(self) -> str:
        """Give the expression of the field's Avro binary."""
        name = self.name
        if self._kind in _LENGTHS:
            data = f"{name}_utf8" if self._kind == "string" else name
            most = self._limits.get("maxLength", len(TABLE)) * (_UTF8_MOST if self._kind == "string" else 1)
            length = f"TABLE[len({data})]" if most < len(TABLE) else f"varint(len({data}))"
            return f"{length} + {data}"
        if self._kind in _INTEGERS:
            return f"(TABLE[{name}] if 0 <= {name} < {len(TABLE)} else varint({name}))"
        if self._kind == "boolean":
            return f'(b"\\x01" if {name} else b"\\x00")'
        return f"{_REALS[self._kind][0]}.pack({name})"

    def read(self) -> list[str]:
        """Read the field from `data` at `at`, check its limits, and go on behind it."""
        name = self.name
        if self._kind == "boolean":
            return [f"{name} = data[at] == 1", "if data[at] > 1:", "    return None", "at += 1"]
        if self._kind in _REALS:
            layout, size = _REALS[self._kind]
            return [f"({name},) = {layout}.unpack_from(data, at)", *self._refuse(self._breaks()), f"at += {size}"]
        lines = ["number = data[at]", "at += 1", "if number > 127:", "    number, at = read_varint(data, at - 1)"]
        if self._kind in _INTEGERS:
            return [*lines, f"{name} = (number >> 1) ^ -(number & 1)", *self._refuse(self._breaks())]
        value = "data[at:end]" + (".decode()" if self._kind == "string" else "")
        return [*lines, "end = at + (number >> 1)", f"{name} = {value}", *self._refuse(["number & 1", *self._breaks()]),
                "at = end"]  # fmt: skip

    def _refuse(self, breaks: list[str]) -> list[str]:
        return [f"if {' or '.join(breaks)}:", "    return None"] if breaks else []

    def _breaks(self) -> list[str]:
        """Give the conditions under which a value breaks a limit, Avro's own among them."""
        if self._kind in _LENGTHS:
            return _outside(f"len({self.name})", self._limits.get("minLength"), self._limits.get("maxLength"))
        least, most = self._limits.get("minimum"), self._limits.get("maximum")
        if bits := _INTEGERS.get(self._kind):
            least = -(2**bits) if least is None else least
            most = 2**bits - 1 if most is None else most
        return _outside(self.name, least, most)


def _outside(what: str, least: float | None, most: float | None) -> list[str]:
    if least is None and most is None:
        return []
    low = "" if least is None else f"{least!r} <= "
    high = "" if most is None else f" <= {most!r}"
    return [f"not {low}{what}{high}"]


def _indent(lines: Any) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]
