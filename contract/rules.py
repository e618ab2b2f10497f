"""What Avro calls compatible and still hurts: limits that move, and what a project agrees not to do.

`subjects.yaml` says of each rule whether it is an error, a warning or off. A break has the shape that
`contract/compatibility.py` gives it, so that whoever judges a pair of schemas judges both alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from contract.avro_schema import Field, Type, is_value
from contract.compatibility import PROMOTIONS, Incompatibility, same_name
from contract.limits import Bound, allows, bounds

Severity: TypeAlias = Literal["error", "warning", "off"]


class AgreedRule(StrEnum):
    """The rules by the names that `subjects.yaml` and findings have for them."""

    LIMIT_CHANGED = "limit-changed"
    LOGICAL_TYPE_CHANGED = "logical-type-changed"
    DECIMAL_CHANGED = "decimal-changed"
    NAMESPACE_CHANGED = "namespace-changed"
    DEFAULT_BREAKS_LIMIT = "default-breaks-limit"
    DEFAULT_CHANGED = "default-changed"
    ALIAS_DROPPED = "alias-dropped"
    ENUM_DEFAULT_MISSING = "enum-default-missing"
    DOC_MISSING = "doc-missing"
    NAME_CASE = "name-case"


# Where subjects.yaml says nothing: what loses or refuses records is an error.
SEVERITIES: Mapping[str, Severity] = {
    **dict.fromkeys(AgreedRule, "warning"),
    AgreedRule.LIMIT_CHANGED: "error",
    AgreedRule.LOGICAL_TYPE_CHANGED: "error",
    AgreedRule.DECIMAL_CHANGED: "error",
    AgreedRule.NAMESPACE_CHANGED: "error",
    AgreedRule.DEFAULT_BREAKS_LIMIT: "error",
}


def compare_agreed(reader: Type, writer: Type) -> tuple[Incompatibility, ...]:
    """Give what a reader refuses or takes for something else although Avro lets it read what the writer wrote."""
    return tuple(dict.fromkeys(broken for pair in _matched(reader, writer) for broken in _pair(*pair)))


def compare_limits(reader: Type, writer: Type) -> tuple[Incompatibility, ...]:
    """Give the limits of a reader that are narrower than the writer's: it refuses what the writer may write."""
    return tuple(dict.fromkeys(broken for pair in _matched(reader, writer) for broken in _limits(*pair)))


def compare_edited(edited: Type, newest: Type) -> tuple[Incompatibility, ...]:
    """Give what an edit does to those who will read with the edited schema: as the reader, the newest as the writer."""
    return tuple(dict.fromkeys(broken for pair in _matched(edited, newest) for broken in _edit(*pair)))


def check_schema(schema: Type) -> tuple[Incompatibility, ...]:
    """Give what a schema lacks by itself; reader and writer are the same."""
    return tuple(dict.fromkeys(broken for pair in _matched(schema, schema) for broken in _alone(pair[0])))


class _Slot:
    """A type where it is used: in a field, whose limits count as the type's own, or elsewhere."""

    def __init__(self, type_: Type, field: Field | None) -> None:
        self.type = type_
        self.field = field
        self.users: tuple[Field | Type, ...] = (field, type_) if field else (type_,)
        self.shown = f"`{field.name}`" if field else str(type_)

    def parts(self) -> Iterator[_Slot]:
        """Give the branches of a union, else the type itself; each keeps the field's limits."""
        for branch in self.type.parts if self.type.kind == "union" else (self.type,):
            yield _Slot(branch, self.field)

    def bounds(self) -> tuple[Bound, ...]:
        """Give the least and the greatest that is allowed; nothing for a type that has no limits."""
        return bounds(self.type.kind, *(user.attributes for user in self.users)) or ()

    def at(self, attribute: str = "") -> str:
        """Give the pointer to an attribute, or to the whole where it has none such."""
        stated = (f"{user.at}/{attribute}" for user in self.users if attribute in user.attributes)
        return next(stated, self.users[0].at)


def _matched(reader: Type, writer: Type) -> Iterator[tuple[_Slot, _Slot]]:
    """Give each place where the reader reads a type from one of the writer's, with both, in the document's order."""
    todo = [(_Slot(reader, None), _Slot(writer, None))]
    seen = set()
    while todo:
        ours, theirs = todo.pop()
        for part in theirs.parts():
            readable = [one for one in ours.parts() if _reads(one.type, part.type)]
            same = [one for one in readable if (one.type.kind, one.type.name) == (part.type.kind, part.type.name)]
            for match in (same or readable)[:1]:
                yield match, part
                if (match.type, part.type) not in seen:
                    seen.add((match.type, part.type))
                    todo += reversed([*_inside(match.type, part.type)])


def _reads(reader: Type, writer: Type) -> bool:
    if reader.kind == writer.kind:
        return not reader.name or same_name(reader, writer)
    return writer.kind in PROMOTIONS.get(reader.kind, ())


def _inside(reader: Type, writer: Type) -> Iterator[tuple[_Slot, _Slot]]:
    for ours, theirs in zip(reader.parts, writer.parts, strict=False):
        yield _Slot(ours, None), _Slot(theirs, None)
    for field in reader.fields.values():
        source = writer.fields.get(field.name)
        if source is None:
            source = next((writer.fields[alias] for alias in field.aliases if alias in writer.fields), None)
        if source is field or (source is not None and not field.is_like(source)):
            yield _Slot(field.type, field), _Slot(source.type, source)


def _pair(reader: _Slot, writer: _Slot) -> Iterator[Incompatibility]:
    yield from _limits(reader, writer)
    ours, theirs = reader.type.attributes, writer.type.attributes
    logical, written = reader.type.logical or None, writer.type.logical or None
    if logical != written:
        message = f"{reader.shown} has the logical type {logical} for the reader and {written} for the writer"
        fix = "keep the logical type, and add a new field for the other"
        yield _break(AgreedRule.LOGICAL_TYPE_CHANGED, reader, writer, message, fix)
    elif logical == "decimal" and _decimal(ours) != _decimal(theirs):
        message = (
            f"the decimal {reader.shown} has {_decimal(ours)} for the reader and {_decimal(theirs)} for the writer"
        )
        fix = "keep precision and scale, and add a new field for others"
        yield _break(AgreedRule.DECIMAL_CHANGED, reader, writer, message, fix)
    if reader.type.name != writer.type.name and writer.type.name not in reader.type.aliases:
        message = f"the reader's {reader.type} is the writer's {writer.type} in another namespace"
        fixes = f"give {reader.type} the alias `{writer.type.name}`", f"keep the name `{reader.type.name}`"
        yield _break(AgreedRule.NAMESPACE_CHANGED, reader, writer, message, *fixes)


def _limits(reader: _Slot, writer: _Slot) -> Iterator[Incompatibility]:
    """Find what the writer may write and the reader refuses: its least is above the writer's, its greatest below."""
    # A character has one to four bytes of UTF-8.
    shortest = 4 if (reader.type.kind, writer.type.kind) == ("string", "bytes") else 1
    longest = 4 if (reader.type.kind, writer.type.kind) == ("bytes", "string") else 1
    for (word, limit), (_, written), least in zip(reader.bounds(), writer.bounds(), (True, False), strict=False):
        if (
            (limit > -(-written // shortest) if shortest > 1 else limit > written)
            if least
            else limit < written * longest
        ):
            has = f"the {word} {written}" if writer.at(word).endswith(word) else f"no {word}"
            further, nearer = ("lower", "higher") if least else ("higher", "lower")
            message = f"{reader.shown} has the {word} {limit} for the reader and {has} for the writer"
            wide = f", or set a {further} one" if "no " not in has else ""
            fixes = f"keep {has}{wide}", f"keep the {word} {limit}, or set a {nearer} one"
            yield _break(AgreedRule.LIMIT_CHANGED, reader, writer, message, *fixes, word=word)


def _edit(edited: _Slot, newest: _Slot) -> Iterator[Incompatibility]:
    for now, was in zip(edited.users, newest.users, strict=False):
        before, after = _default(was), _default(now)
        if before != after and ... not in (before, after):
            message = f"the default of {edited.shown} was {json.dumps(before)} and is {json.dumps(after)}"
            message += ": who reads old records with the new schema sees another value than before"
            fix = f"keep the default {json.dumps(before)}"
            yield _break(AgreedRule.DEFAULT_CHANGED, edited, newest, message, fix, word="default")
        if dropped := sorted(set(was.aliases) - {*now.aliases, now.name}):
            names = ", ".join(f"`{name}`" for name in dropped)
            message = f"what was written as {names} is no longer read as {edited.shown}"
            yield _break(AgreedRule.ALIAS_DROPPED, edited, newest, message, f"keep the alias {names}", word="aliases")


_CASES = {"field": ("snake_case", r"[a-z][a-z0-9_]*"), "type": ("PascalCase", r"[A-Z][A-Za-z0-9]*")}
_CASES["symbol"] = ("UPPER_CASE", r"[A-Z][A-Z0-9_]*")


def _alone(slot: _Slot) -> Iterator[Incompatibility]:
    own = _Slot(slot.type, None)
    names = [("type", slot.type.name.rpartition(".")[2], own)] if slot.type.name else []
    names += [("symbol", symbol, own) for symbol in slot.type.symbols]
    if slot.type.kind == "enum" and slot.type.default is None:
        message = f"each reader of today breaks when a symbol is added to {slot.type}"
        yield _break(AgreedRule.ENUM_DEFAULT_MISSING, own, own, message, "give it a default")
    if slot.field is not None:
        names.append(("field", slot.field.name, slot))
        if not slot.field.attributes.get("doc"):
            message = f"{slot.shown} does not say what it means"
            yield _break(AgreedRule.DOC_MISSING, slot, slot, message, "give it a `doc`")
        if is_value(slot.type, slot.field.default) and not allows(
            slot.type.kind, slot.field.default, slot.field.attributes, slot.type.attributes
        ):
            message = f"readers refuse each record without {slot.shown}: its default breaks its own limit"
            fix = "give it a default within its limits"
            yield _break(AgreedRule.DEFAULT_BREAKS_LIMIT, slot, slot, message, fix, word="default")
    for what, name, where in names:
        case, pattern = _CASES[what]
        if not re.fullmatch(pattern, name):
            message = f"the {what} `{name}` is not in {case}"
            yield _break(AgreedRule.NAME_CASE, where, where, message, f"give it a name in {case}")


def _break(
    rule: AgreedRule, reader: _Slot, writer: _Slot, message: str, *fixes: str, word: str = ""
) -> Incompatibility:  # fmt: skip
    return Incompatibility(rule, "", message, fixes[0], fixes[-1], reader.at(word), writer.at(word))


def _default(of: Field | Type) -> Any:
    return ... if isinstance(of, Type) and of.default is None else of.default


def _decimal(attributes: Mapping[str, Any]) -> str:
    return f"precision {attributes.get('precision')} and scale {attributes.get('scale', 0)}"
