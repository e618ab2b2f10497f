"""Says in words what one version of a schema changes, field by field, for those who read a plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from contract.avro_schema import Field, Type

# What is told in words of its own, or is no change of what a record is.
_TOLD = frozenset({"type", "name", "namespace", "aliases", "doc", "fields", "items", "values", "symbols", "size"})


def describe_changes(old: Type | None, new: Type) -> tuple[str, ...]:
    """Give a phrase for each change from `old`, None before the first version, to `new`."""
    if old is None:
        return ("the first version",)
    before, after = dict(_fields(old)), dict(_fields(new))
    renamed = {
        path: source
        for path, field in after.items()
        for source in ([path] if path in before else [path.removesuffix(field.name) + alias for alias in field.aliases])
        if source in before
    }
    found = [f"renamed `{source}` to `{path}`" for path, source in renamed.items() if source != path]
    for path, field in after.items():
        if path in renamed:
            found += _differences(before[renamed[path]], field, f"`{path}`" if path else "the schema")
        else:
            stated = "".join(f" {word} {value}" for word, value in _attributes(field).items())
            found.append(f"added `{path}` {_shown(field.type)}{stated}")
    found += [f"removed `{path}` {_shown(before[path].type)}" for path in before if path not in renamed.values()]
    return tuple(found) or ("documentation only",)


def _fields(type_: Type) -> Iterator[tuple[str, Field]]:
    """Give each field of the records in a schema by its dotted path; the schema itself is the one with none."""
    todo = [("", Field("", type_, (), ..., "", {}))]
    seen = set()
    while todo:
        path, field = todo.pop()
        yield path, field
        parts = [field.type]
        for part in parts:
            parts += part.parts
            if part not in seen:
                seen.add(part)
                todo += [(f"{path}.{one.name}".lstrip("."), one) for one in reversed(part.fields.values())]


def _differences(before: Field, after: Field, name: str) -> Iterator[str]:
    if _shown(before.type) != _shown(after.type):
        yield f"{name} was {_shown(before.type)} and is {_shown(after.type)}"
    old, new = _attributes(before), _attributes(after)
    for word in dict.fromkeys((*old, *new)):
        if old.get(word) != new.get(word):
            yield f"{name} {word} was {old.get(word, 'not set')} and is {new.get(word, 'not set')}"
    was, now = ({*field.aliases, *field.type.aliases} for field in (before, after))
    for alias in sorted((was ^ now) - {before.name, before.type.name}):
        yield f"{name} {'lost' if alias in was else 'has'} the alias {alias}"


def _attributes(field: Field) -> Mapping[str, str]:
    """Give what a schema says of a field beside its name and type, as JSON: default, limits, logical type."""
    stated: dict[str, Any] = {**_of_type(field.type), **field.attributes}
    return {word: json.dumps(value, ensure_ascii=False) for word, value in stated.items() if word not in _TOLD}


def _of_type(type_: Type, prefix: str = "") -> dict[str, Any]:
    """Give the same of a type and of the types in it, such as an array's items."""
    own = {**type_.attributes, "symbols' default": type_.default} if type_.default else type_.attributes
    found = {f"{prefix}{word}": value for word, value in own.items() if word not in _TOLD | {"default"}}
    inner = {"array": f"{prefix}items' ", "map": f"{prefix}values' "}.get(type_.kind, prefix)
    for part in type_.parts:
        found |= _of_type(part, inner)
    return found


def _shown(type_: Type) -> str:
    match type_.kind:
        case "union":
            return " or ".join(map(_shown, type_.parts))
        case "array" | "map" as kind:
            return f"{kind} of {_shown(type_.parts[0])}"
        case "enum":
            return f"{type_.name} ({', '.join(type_.symbols)})"
        case "fixed":
            return f"{type_.name} ({type_.size} bytes)"
        case kind:
            return type_.name or kind
