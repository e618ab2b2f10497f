"""Parses Avro schemas into types whose names are resolved, and refuses what the specification does not allow.

The gate judges what people wrote, so each type and each error knows its place in the document.
"""

import math
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
    shape: str = ""  # all that decides its bytes and values, as text; of a type with a name or a logical type none

    def __str__(self) -> str:
        return f"{self.kind} `{self.name}`" if self.name else f"`{self.kind}`"

    @property
    def logical(self) -> str:
        """The logical type, also one that Avro does not know; "" for none, and for one that is not valid here.

        "Language implementations … must ignore … if a logical type is invalid" (the specification's "Logical Types").
        """
        logical = self.attributes.get("logicalType")
        if not isinstance(logical, str) or self.kind not in _LOGICAL_TYPES.get(logical, {self.kind}):
            return ""
        if logical == "decimal":
            return logical if _is_decimal(self) else ""
        return logical if self.size == _LOGICAL_SIZES.get(logical, self.size) or self.kind != "fixed" else ""


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
        if self.attributes != other.attributes:
            return False
        parts = (self.type, *self.type.parts)
        return bool(self.type.shape) or not any(part.name or part.parts for part in parts[1:] or parts)


def parse(
    schema: Schema | Type,
    references: Mapping[str, Schema] | None = None,
    *,
    check_defaults: bool = False,
) -> Type:
    """Return the schema with its names resolved (the specification's "Names"); a parsed one as it is.

    `references` are the schemas whose named types this one uses, by file name, each after those that it uses
    itself; pointers into them begin with that name and "#". What changes no byte (defaults, aliases, a field's order,
    limits) is checked only when asked for, and names then have the specification's letters, not any language's as
    Java's parser lets them: a registry does so for new schemas, and what was released is as it is. Raises SchemaError.
    """
    if isinstance(schema, Type):
        return schema
    parser = _Parser(_NAME if check_defaults else _ANY_NAME)
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


_LOGICAL_TYPES: Mapping[str, set[str]] = {
    "decimal": {"bytes", "fixed"},
    "big-decimal": {"bytes"},
    "uuid": {"string", "fixed"},
    "date": {"int"},
    "time-millis": {"int"},
    "time-micros": {"long"},
    **{f"{local}timestamp-{unit}": {"long"} for local in ("", "local-") for unit in ("millis", "micros", "nanos")},
    "duration": {"fixed"},
}
_LOGICAL_SIZES = {"uuid": 16, "duration": 12}  # of a fixed, in bytes


def _is_decimal(type_: Type) -> bool:
    """Whether a decimal's precision and scale are such, and its fixed has room for them, as Java has it."""
    precision, scale = type_.attributes.get("precision"), type_.attributes.get("scale", 0)
    if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision < 1 << 31 or not precision:
        return False
    return type_.kind == "bytes" or precision <= math.floor(math.log10(2) * (8 * type_.size - 1))


_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ANY_NAME = re.compile(r"[^\W\d]\w*")
_ORDERS = {"ascending", "descending", "ignore"}
_MOST_BYTES = 2**31 - 1  # of a fixed


def _is_full_name(name: str, form: re.Pattern[str] = _NAME) -> bool:
    return all(map(form.fullmatch, name.split(".")))


class _Parser:
    """Parses schemas that share their names."""

    def __init__(self, name: re.Pattern[str]) -> None:
        self.names: dict[str, Type] = {}
        self._name = name

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
            shape = f"{kind}({part.shape})" if part.shape and "logicalType" not in schema else ""
            return Type(kind, at, parts=(part,), attributes=schema, shape=shape)
        if isinstance(schema, dict) and kind in {"record", "error", "enum", "fixed"}:
            return (yield from self._named(kind, schema, namespace, at))
        if kind in _PRIMITIVES:
            attributes = schema if isinstance(schema, dict) else {}
            return Type(kind, at, attributes=attributes, shape="" if "logicalType" in attributes else kind)
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
        parts = tuple(branches.values())
        shape = ",".join(part.shape for part in parts) if all(part.shape for part in parts) else ""
        return Type("union", at, parts=parts, shape=f"[{shape}]" if shape else "")

    def _named(self, kind: str, schema: dict[str, Any], namespace: str, at: str) -> Recursion[Type]:
        own, around = schema.get("name"), schema.get("namespace")
        name = _full_name(own, around if isinstance(around, str) else namespace) if isinstance(own, str) else ""
        if not _is_full_name(name, self._name):
            raise SchemaError(f"a {kind} has a `name` of letters, digits and _, not `{name}`", at)
        if name in self.names or name in _PRIMITIVES:
            raise SchemaError(f"the name `{name}` is taken", at)
        namespace = name.rpartition(".")[0]
        aliases = tuple(_full_name(alias, namespace) for alias in _strings(schema, "aliases", at))
        if kind == "enum":
            symbols, default = _strings(schema, "symbols", at, None), schema.get("default")
            if len(set(symbols)) < len(symbols) or not all(map(self._name.fullmatch, symbols)):
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
            if not isinstance(name, str) or not self._name.fullmatch(name) or name in record.fields:
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
    """Raise SchemaError where something that changes no byte is not what the specification wants."""
    _check_words(named)
    for each in named.fields.values():
        _check_limits(each)
        order = each.attributes.get("order", "ascending")
        if not isinstance(order, str) or order not in _ORDERS:
            said = f"the order of `{each.name}` is ascending, descending or ignore, not {order!r}"
            raise SchemaError(said, f"{each.at}/order")
        try:
            fits = each.default is ... or is_value(each.type, each.default, exact=True)
        except RecursionError:  # the record that the default begins has a field with the same default, and so on
            fits = False
        if not fits:
            raise SchemaError(f"the default {each.default!r} of `{each.name}` is no value of {each.type}", each.at)


def _check_words(named: Type) -> None:
    if named.default is not None and named.default not in named.symbols:
        raise SchemaError(f"the default {named.default!r} is no symbol of {named}", named.at)
    namespace = named.attributes.get("namespace", "")
    if namespace != "" and not (isinstance(namespace, str) and _is_full_name(namespace)):
        said = f"the `namespace` of {named} is names with dots between them, not {namespace!r}"
        raise SchemaError(said, f"{named.at}/namespace")
    if named.size > _MOST_BYTES:
        raise SchemaError(f"the `size` of {named} is {named.size}, and is to be {_MOST_BYTES} or less", named.at)
    documented: tuple[Type | Field, ...] = (named, *named.fields.values())
    for one in documented:
        if not isinstance(one.attributes.get("doc", ""), str):
            raise SchemaError(f"the `doc` of `{one.name}` is text, not {one.attributes['doc']!r}", one.at)
        for alias in one.aliases:
            if not (_is_full_name(alias) if one is named else _NAME.fullmatch(alias)):
                said = f"the alias {alias!r} of `{one.name}` is no name: letters, digits and _"
                raise SchemaError(said, f"{one.at}/aliases")


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


def is_value(of: Type, value: Any, *, exact: bool = False) -> bool:
    """Whether a default fits: the specification's table under "Complex Types, Records"; any branch of a union.

    An `exact` one stands for itself. Java's parser takes others, and then reads another value: bytes of characters
    beyond U+00FF, a fixed of another size, a float that is infinite.
    """
    if of.kind == "union":
        fitting = next((branch for branch in of.parts if is_value(branch, value)), None)
        return fitting is not None and (not exact or is_value(fitting, value, exact=True))
    if type(value) not in _JSON.get(of.kind, {str}) or (exact and not _stands_for_itself(of, value)):
        return False
    if of.kind in {"int", "long"}:
        return allows(of.kind, value)
    if of.kind == "record":
        fields = of.fields.values()
        return all(is_value(each.type, value.get(each.name, each.default), exact=exact) for each in fields)
    if of.kind in {"array", "map"}:
        items = value if of.kind == "array" else value.values()
        return all(is_value(of.parts[0], item, exact=exact) for item in items)
    return of.kind != "enum" or value in of.symbols


def _stands_for_itself(of: Type, value: Any) -> bool:
    if of.kind in {"bytes", "fixed"}:
        return max(map(ord, value), default=0) < _BYTE_END and (of.kind == "bytes" or len(value) == of.size)
    return of.kind not in {"float", "double"} or bool(abs(value) < (_FLOAT_END if of.kind == "float" else _DOUBLE_END))


_BYTE_END = 256
_FLOAT_END = 2**128 - 2**103  # from here on, the nearest float is infinite
_DOUBLE_END = 2**1024 - 2**970
