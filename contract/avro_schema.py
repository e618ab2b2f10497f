"""Parses Avro schemas into types whose names are resolved, and refuses what the specification does not allow.

The gate judges what people wrote, so each type and each error knows its place in the document.
"""

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

from contract.limits import allows, why_wrong

T = TypeVar("T")
Schema: TypeAlias = str | list[Any] | dict[str, Any]  # as JSON gives it
MAX_DEPTH = 1_000  # levels of JSON; Java's parser has the same limit, 250 nested records with optional fields


class SchemaError(ValueError):
    """What was given is no Avro schema. `path` says where, as a JSON pointer ("" is the whole)."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(f"{message} (at {path or '/'})")
        self.path = path


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """A type as it is used: the same object wherever its name is, so that recursive types are what they are.

    `at` is where it is written, as a JSON pointer.
    """

    kind: str
    at: str
    parts: tuple["Type", ...] = ()  # the branches of a union; the items of an array, the values of a map
    name: str = ""  # full name of a record, an enum or a fixed
    aliases: tuple[str, ...] = ()  # full names
    fields: dict[str, "Field"] = field(default_factory=dict)  # of a record; filled after it is made, for it may recur
    symbols: tuple[str, ...] = ()  # of an enum
    default: str | None = None  # of an enum
    size: int = 0  # of a fixed, in bytes
    attributes: Mapping[str, Any] = field(default_factory=dict)  # as it is written, what Avro does not know included

    def __str__(self) -> str:
        return f"{self.kind} `{self.name}`" if self.name else f"`{self.kind}`"


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A field of a record. Without a default, that is `...`, for null is a default too."""

    name: str
    type: Type
    aliases: tuple[str, ...]
    default: Any
    at: str
    attributes: Mapping[str, Any]

    def is_like(self, other: "Field") -> bool:
        """Whether two fields are written alike and name no type: one reads what the other wrote, as most fields do."""
        parts = (self.type, *self.type.parts)
        return self.attributes == other.attributes and not any(part.name or part.parts for part in parts[1:] or parts)


def parse(
    schema: Schema | Type, references: Mapping[str, Schema] | None = None, *, check_defaults: bool = False
) -> Type:
    """Return the schema with its names resolved (the specification's "Names"); a parsed one as it is.

    `references` are the schemas whose named types this one uses, by file name, each after those that it uses
    itself; pointers into them begin with that name and "#". Defaults, and the limits beside Avro's own words, are
    checked only when asked for, as a registry does for new schemas: what was released is as it is. Raises SchemaError.
    """
    if isinstance(schema, Type):
        return schema
    parser = _Parser()
    for file, reference in (references or {}).items():
        run(parser.type, reference, "", f"{file}#")
    parsed = run(parser.type, schema, "", "")
    if check_defaults:
        for named in parser.names.values():
            _check_named(named)
    return parsed


Recursion: TypeAlias = Generator[tuple[Any, ...], Any, T]  # yields the arguments of each call of itself


def run(function: Callable[..., Recursion[T]], *arguments: Any) -> T:
    """Run a recursive function on a stack of its own: schemas may nest deeper than Python's calls."""
    stack: list[Recursion[T]] = [function(*arguments)]
    answer: Any = None
    while stack:
        try:
            call = stack[-1].send(answer)
        except StopIteration as returned:
            stack.pop()
            answer = returned.value
        else:
            stack.append(function(*call))
            answer = None
    return cast(T, answer)


_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME = re.compile(rf"{_NAME.pattern}(\.{_NAME.pattern})*")


class _Parser:
    """Parses schemas that share their names."""

    def __init__(self) -> None:
        self.names: dict[str, Type] = {}

    def type(self, schema: Any, namespace: str, at: str) -> Recursion[Type]:
        """Parse one type; `namespace` is that of the named type around it."""
        if at.count("/") > MAX_DEPTH:
            raise SchemaError(f"the schema nests deeper than {MAX_DEPTH} levels of JSON", "")
        if isinstance(schema, list):
            return (yield from self._union(schema, namespace, at))
        kind = schema.get("type") if isinstance(schema, dict) else schema
        if not isinstance(kind, str):
            raise SchemaError("a type is a name, a list of types, or an object whose `type` is a name", at)
        if isinstance(schema, dict) and kind in {"array", "map"}:
            key = "items" if kind == "array" else "values"
            part = yield schema.get(key), namespace, f"{at}/{key}"
            return Type(kind, at, parts=(part,), attributes=schema)
        if isinstance(schema, dict) and kind in {"record", "error", "enum", "fixed"}:
            return (yield from self._named(kind, schema, namespace, at))
        if kind in _PRIMITIVES:
            return Type(kind, at, attributes=schema if isinstance(schema, dict) else {})
        known = self.names.get(_full_name(kind, namespace)) or self.names.get(kind)
        if not known:
            raise SchemaError(f"unknown type `{kind}`: neither one of Avro's own nor defined before", at)
        return known

    def _union(self, schemas: list[Any], namespace: str, at: str) -> Recursion[Type]:
        branches: dict[str, Type] = {}
        for position, schema in enumerate(schemas):
            branch = yield schema, namespace, f"{at}/{position}"
            if branch.kind == "union" or (branch.name or branch.kind) in branches:
                raise SchemaError(
                    f"a union may hold no other union and no type twice, as {branch} here", f"{at}/{position}"
                )
            branches[branch.name or branch.kind] = branch
        return Type("union", at, parts=tuple(branches.values()))

    def _named(self, kind: str, schema: dict[str, Any], namespace: str, at: str) -> Recursion[Type]:
        own, around = schema.get("name"), schema.get("namespace")
        name = _full_name(own, around if isinstance(around, str) else namespace) if isinstance(own, str) else ""
        if not _FULL_NAME.fullmatch(name):
            raise SchemaError(f"a {kind} has a `name` of letters, digits and _, not `{name}`", at)
        if name in self.names or name in _PRIMITIVES:
            raise SchemaError(f"the name `{name}` is taken", at)
        namespace = name.rpartition(".")[0]
        aliases = tuple(_full_name(alias, namespace) for alias in _strings(schema, "aliases", at))
        if kind == "enum":
            symbols, default = _strings(schema, "symbols", at, None), schema.get("default")
            if len(set(symbols)) < len(symbols) or not all(map(_NAME.fullmatch, symbols)):
                raise SchemaError(f"the symbols of `{name}` are names, each once", f"{at}/symbols")
            parsed = Type(kind, at, name=name, aliases=aliases, symbols=symbols, default=default, attributes=schema)
        elif kind == "fixed":
            size = schema.get("size")
            if type(size) is not int or size < 0:
                raise SchemaError(f"the `size` of `{name}` is a number of bytes, not {size!r}", at)
            parsed = Type(kind, at, name=name, aliases=aliases, size=size, attributes=schema)
        else:
            parsed = Type("record", at, name=name, aliases=aliases, attributes=schema)
        self.names[name] = parsed
        if parsed.kind == "record":
            yield from self._fields(parsed, schema.get("fields"), namespace)
        return parsed

    def _fields(self, record: Type, schemas: Any, namespace: str) -> Recursion[None]:
        if not isinstance(schemas, list):
            raise SchemaError(f"{record} has no list of `fields`", record.at)
        for position, schema in enumerate(schemas):
            at = f"{record.at}/fields/{position}"
            name = schema.get("name") if isinstance(schema, dict) else None
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name in record.fields:
                raise SchemaError(f"a field has a `name` of its own of letters, digits and _, not {name!r}", at)
            parsed = yield schema.get("type"), namespace, f"{at}/type"
            aliases = dict.fromkeys(_strings(schema, "aliases", at))
            record.fields[name] = Field(name, parsed, tuple(aliases), schema.get("default", ...), at, schema)


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _strings(schema: dict[str, Any], key: str, at: str, absent: Any = ()) -> tuple[str, ...]:
    values = schema.get(key, absent)
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise SchemaError(f"`{key}` is a list of names", at)
    return tuple(values)


def _check_named(named: Type) -> None:
    """Raise SchemaError where a default is no value of its type, a limit no limit, or a doc no text."""
    if named.default is not None and named.default not in named.symbols:
        raise SchemaError(f"the default {named.default!r} is no symbol of {named}", named.at)
    documented: tuple[Type | Field, ...] = (named, *named.fields.values())
    for one in documented:
        if not isinstance(one.attributes.get("doc", ""), str):
            raise SchemaError(f"the `doc` of `{one.name}` is text, not {one.attributes['doc']!r}", one.at)
    for each in named.fields.values():
        _check_limits(each)
        try:
            fits = each.default is ... or is_value(each.type, each.default)
        except RecursionError:  # the record that the default begins has a field with the same default, and so on
            fits = False
        if not fits:
            raise SchemaError(f"the default {each.default!r} of `{each.name}` is no value of {each.type}", each.at)


def _check_limits(field: Field) -> None:
    """Raise SchemaError for what states no limit, at the field or at a type that has no name in it."""
    todo: list[tuple[Type, Mapping[str, Any]]] = [(field.type, field.attributes)]
    while todo:
        type_, stated = todo.pop()
        if wrong := why_wrong(type_.kind, stated, type_.attributes):
            raise SchemaError(f"a limit of `{field.name}`: {wrong}", field.at)
        todo += [(part, stated if type_.kind == "union" else {}) for part in type_.parts]


_JSON: dict[str, set[type]] = {
    "null": {type(None)},
    "boolean": {bool},
    "int": {int},
    "long": {int},
    "float": {int, float},
    "double": {int, float},
    "array": {list},
    "map": {dict},
    "record": {dict},
}


def is_value(of: Type, value: Any) -> bool:
    """Whether a default fits: the specification's table under "Complex Types, Records"; any branch of a union."""
    if of.kind == "union":
        return any(is_value(branch, value) for branch in of.parts)
    if type(value) not in _JSON.get(of.kind, {str}):
        return False
    if of.kind in {"int", "long"}:
        return allows(of.kind, value)
    if of.kind == "record":
        return all(is_value(each.type, value.get(each.name, each.default)) for each in of.fields.values())
    if of.kind in {"array", "map"}:
        return all(is_value(of.parts[0], one) for one in (value if of.kind == "array" else value.values()))
    return of.kind != "enum" or value in of.symbols
