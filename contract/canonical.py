"""When two schemas are the same: compared as they are parsed, for a registry may write one in another way.

Confluent's splits dotted names into namespace and name, and has an order of attributes of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.avro_schema import Field, Type

_STRUCTURE = {"type", "name", "namespace", "aliases", "fields", "symbols", "items", "values", "size", "default"}
_LOGICAL = {"logicalType", "precision", "scale"}


def is_same(one: Type, other: Type) -> bool:
    """Return whether two schemas say the same in all: types, names, aliases, defaults, docs, and what Avro ignores."""
    return _parts(one, layout=False) == _parts(other, layout=False)


def is_laid_out_alike(one: Type, other: Type) -> bool:
    """Return whether records of two schemas have the same bytes, by the same names.

    That is what Avro's Parsing Canonical Form keeps (specification, "Transforming into Parsing Canonical Form"), with
    the logical types, which say how the bytes are read.
    """
    return _parts(one, layout=True) == _parts(other, layout=True)


def _parts(schema: Type, *, layout: bool) -> list[object]:
    """Return a schema as a flat list, for it may nest deeper than Python compares; a named type is told once."""
    found: list[object] = []
    known: set[Type] = set()
    todo: list[Type | Field] = [schema]
    while todo:
        part = todo.pop()
        if isinstance(part, Field):
            found.append(part.name if layout else (part.name, part.aliases, part.default, _said(part.attributes)))
            todo.append(part.type)
            continue
        if part in known:
            found.append(part.name)
            continue
        if part.name:
            known.add(part)
        inside: tuple[Type | Field, ...] = (*part.parts, *part.fields.values())
        found.append((part.kind, part.name, part.symbols, part.size, len(inside)))
        if layout:
            found.append({word: said for word, said in part.attributes.items() if word in _LOGICAL})
        else:
            found.append((part.aliases, part.default, _said(part.attributes)))
        todo += reversed(inside)
    return found


def _said(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said beside the structure; the order "ascending" is the one that nobody has to state."""
    said = {word: value for word, value in attributes.items() if word not in _STRUCTURE}
    return {word: value for word, value in said.items() if (word, value) != ("order", "ascending")}
