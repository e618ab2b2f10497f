"""Makes golden bytes: records at the ends of a version's limits, with the Avro binary that they must always have.

They are written once, when a version is released, and then hold every later encoder, decoder and reader to it.
"""

from __future__ import annotations

import datetime
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.avro_schema import Type, parse
from contract.binary import resolve
from contract.errors import ContractError, Unreadable
from contract.limits import AVROS, bounds
from contract.resolution import has_bytes
from contract.subjects import SchemaFile
from contract.varint import DOUBLE, FLOAT, varint

MOST_BYTES = 1_000_000
"""Of all golden records of a version, a byte for each value and the names of fields included: the rest is left out."""
MOST_OF_SMALLEST = 20_000
"""Values and bytes of the smallest value of a type; of one that needs more no value is made where it can be avoided."""
_MOST_OF_RECORD = MOST_BYTES // 2  # so that one that is too large leaves room for others
_FREE_ITEMS = 100  # of a type without bytes, which no message has many of


@dataclass(frozen=True)
class Golden:
    """One record as plain values, logical types as their underlying ones, and its Avro binary, unframed."""

    value: Any
    avro: bytes


def golden_path(version: SchemaFile) -> Path:
    """Where a released version's golden bytes are kept: beside its schema."""
    return version.path.with_suffix(".golden.json")


def make_golden(schema: Any, references: Mapping[str, Any] | None = None) -> tuple[Golden, ...]:
    """Return records in which each branch, each symbol and both ends of each limit are met.

    The first is all that comes first, the second all that comes second, and so on; a place that has no more takes its
    smallest value, as does a record's type where it is used again. There are none of a type without an end, or whose
    smallest value is too large. `references` are the schemas whose types it uses.
    """
    try:
        return tuple(_Values(parse(schema, references)).records())
    except RecursionError:  # deeper than Python's calls
        return ()


def read_golden(version: SchemaFile) -> tuple[Golden, ...]:
    """Read the golden bytes of a released version; raises ContractError when there are none, and could be."""
    path = golden_path(version)
    try:
        found = tuple(Golden(one["value"], bytes.fromhex(one["avro"])) for one in json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ContractError(f"{path} is not a list of golden records: {error}; restore the file") from None
    if not found and golden_of(version):
        raise ContractError(f"{path} holds no golden records; restore the file")
    return found


def golden_of(version: SchemaFile) -> tuple[Golden, ...]:
    """Make the golden bytes of a version."""
    return make_golden(version.parsed)


def write_golden(version: SchemaFile) -> Path:
    """Write the golden bytes of a version that is being released."""
    path = golden_path(version)
    records = [{"value": one.value, "avro": one.avro.hex()} for one in golden_of(version)]
    text = json.dumps(records, indent=1, ensure_ascii=False, default=lambda raw: raw.decode("latin-1"))
    path.write_text(text + "\n", "utf-8")
    return path


def decode_golden(golden: Golden, reader: SchemaFile, writer: SchemaFile) -> str | None:
    """Really decode golden bytes as a reader does, and return why it cannot; None when it can."""
    try:
        resolve(golden.avro, writer.parsed, reader.parsed)
    except Unreadable as error:
        return str(error)
    return None


_FLOAT_MOST = float(2**128 - 2**104)
# Python's dates end sooner than Avro's numbers do, and a UUID is not any text.
_DAYS = [day.toordinal() - datetime.date(1970, 1, 1).toordinal() for day in (datetime.date.min, datetime.date.max)]
_DAY_MILLIS = 24 * 60 * 60 * 1000
_MILLIS = (_DAYS[0] * _DAY_MILLIS, (_DAYS[1] + 1) * _DAY_MILLIS - 1)
_MICROS = (_DAYS[0] * _DAY_MILLIS * 1000, (_DAYS[1] + 1) * _DAY_MILLIS * 1000 - 1)
_LOGICAL: Mapping[tuple[str, str], tuple[Any, Any]] = {
    ("int", "date"): (_DAYS[0], _DAYS[1]),
    ("int", "time-millis"): (0, _DAY_MILLIS - 1),
    ("long", "time-micros"): (0, _DAY_MILLIS * 1000 - 1),
    ("long", "timestamp-millis"): _MILLIS,
    ("long", "timestamp-micros"): _MICROS,
    ("long", "local-timestamp-millis"): _MILLIS,
    ("long", "local-timestamp-micros"): _MICROS,
    ("string", "uuid"): (str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1))),
}


@dataclass(frozen=True)
class _Variants:
    """The values that one place takes in turn: how many there are, and what makes one of them."""

    count: int
    at: Callable[[int], Golden]


class _TooLargeError(Exception):
    """A record has more values and bytes than a golden one may have."""


_NONE = math.inf  # what a value costs that has no end, or that is too large


class _Values:
    """The golden values of a schema's types."""

    def __init__(self, schema: Type) -> None:
        self._schema = schema
        self._costs = _costs(schema)
        self._smallest: dict[tuple[Type, int], tuple[Golden, int]] = {}  # of each place, and what it takes of `_left`
        self._met: set[Type] = set()
        self._enough = 3  # items of an array without a limit that is in no other, or they would multiply
        self._left = 0  # of MOST_BYTES, that the record in hand may still take

    def records(self) -> list[Golden]:
        variants = self._variants(self._schema, _NO_LIMITS) or _Variants(0, lambda _: _EMPTY_MAP)
        found: list[Golden] = []
        rest = MOST_BYTES
        for position in range(variants.count):
            self._left = most = min(rest, _MOST_OF_RECORD)
            with suppress(_TooLargeError):
                found.append(variants.at(position))
            rest -= most - max(self._left, 0)
            if not rest:
                break
        return found

    def _variants(self, type_: Type, near: Mapping[str, Any]) -> _Variants | None:  # noqa: PLR0911 - one for each kind
        """Return the values of a place, None where there are none."""
        if _cost(type_, near, self._costs) == _NONE:
            return None
        match type_.kind:
            case "union":
                return self._union(type_, near)
            case "record":
                return self._record(type_)
            case "array":
                return self._array(type_, near)
            case "map":
                values = self._variants(type_.parts[0], _NO_LIMITS)
                if values is None:
                    return _Variants(1, lambda _: _EMPTY_MAP)
                return _Variants(values.count + 1, lambda k: _map(values.at(k - 1)) if k else _EMPTY_MAP)
            case _:
                ends = _ends(type_, {**type_.attributes, **near})
                return _Variants(len(ends), lambda k: self._spend_on(ends[k]))

    def _union(self, type_: Type, near: Mapping[str, Any]) -> _Variants:
        choices: list[tuple[int, _Variants, int]] = []
        for position, branch in enumerate(type_.parts):
            variants = self._variants(branch, near)
            if variants is not None:
                choices += [(position, variants, k) for k in range(variants.count)]

        def at(k: int) -> Golden:
            position, variants, place = choices[k]
            return _branch(position, variants.at(place))

        return _Variants(len(choices), at)

    def _record(self, type_: Type) -> _Variants | None:
        if type_ in self._met:
            return _Variants(1, lambda _: self._small(type_, _NO_LIMITS))
        self._met.add(type_)
        fields = [(field, self._variants(field.type, field.attributes)) for field in type_.fields.values()]
        varied = [(field, variants) for field, variants in fields if variants is not None]
        own = _own_cost(type_)

        def at(k: int) -> Golden:
            self._spend(own)
            return _of_fields(
                (field.name, variants.at(k) if k < variants.count else self._small(field.type, field.attributes))
                for field, variants in varied
            )

        return _Variants(max((variants.count for _, variants in varied), default=1), at)

    def _array(self, type_: Type, near: Mapping[str, Any]) -> _Variants:
        """Fewest items first, most of them last, and between them one for each value that an item may have."""
        enough, self._enough = self._enough, 1
        items = self._variants(type_.parts[0], _NO_LIMITS)
        self._enough = enough
        least, most = _sizes("array", {**type_.attributes, **near}, enough)
        if items is None or not most:
            return _Variants(1, lambda _: _items([]))
        cost = _cost(type_.parts[0], _NO_LIMITS, self._costs)
        most = max(least, 1, min(most, MOST_OF_SMALLEST // int(cost)))
        most = most if has_bytes(type_.parts[0]) else max(least, min(most, _FREE_ITEMS))
        first = int(not least)  # without items, nothing of an item is seen
        count = max(items.count + first, 2)

        def at(k: int) -> Golden:
            if k < first:
                return _items([])
            size, left = most if k == count - 1 else max(least, 1), self._left
            item = items.at(min(k - first, items.count - 1))
            self._spend((left - self._left) * (size - 1))
            return _items([item] * size)

        return _Variants(count, at)

    def _small(self, type_: Type, near: Mapping[str, Any]) -> Golden:
        """Return the smallest value of a place that has one: made once, and shared."""
        place = type_, id(near)  # a field's attributes, which the schema keeps
        if place not in self._smallest:
            left = self._left
            made = self._make_small(type_, near)
            self._smallest[place] = made, left - self._left
            return made
        made, cost = self._smallest[place]
        self._spend(cost)
        return made

    def _make_small(self, type_: Type, near: Mapping[str, Any]) -> Golden:
        match type_.kind:
            case "union":
                costs = [_cost(branch, near, self._costs) for branch in type_.parts]
                position = costs.index(min(costs))
                return _branch(position, self._small(type_.parts[position], near))
            case "record":
                self._spend(_own_cost(type_))
                fields = type_.fields.values()
                return _of_fields((field.name, self._small(field.type, field.attributes)) for field in fields)
            case "array":
                least, _ = _sizes("array", {**type_.attributes, **near}, 0)
                return _items([self._small(type_.parts[0], _NO_LIMITS) for _ in range(least)])
            case "map":
                return _EMPTY_MAP
            case _:
                return self._spend_on(_ends(type_, {**type_.attributes, **near})[0])

    def _spend_on(self, value: Golden) -> Golden:
        self._spend(1 + len(value.avro))
        return value

    def _spend(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise _TooLargeError


def _own_cost(record: Type) -> int:
    """Return what a record takes beside its fields' values: their names, and one for each, which may take nothing."""
    return 1 + sum(1 + len(name) for name in record.fields)


def _costs(schema: Type) -> Mapping[Type, float]:
    """Return what the smallest value of each type costs, in values and bytes: from below until nothing changes."""
    types: dict[Type, None] = {}
    todo = [schema]
    while todo:
        type_ = todo.pop()
        if type_ not in types:
            types[type_] = None
            todo += [*type_.parts, *(field.type for field in type_.fields.values())]
    found: dict[Type, float] = dict.fromkeys(types, _NONE)
    changed = True
    while changed:
        changed = False
        for type_ in reversed(types):
            cost = _cost(type_, _NO_LIMITS, found, own=True)
            if cost < found[type_]:
                found[type_], changed = cost, True
    return found


def _cost(type_: Type, near: Mapping[str, Any], known: Mapping[Type, float], *, own: bool = False) -> float:
    """Return what the smallest value of a place costs; `known` has it for what is inside."""
    if type_.kind == "record" and not own:
        return known[type_]
    limits = {**type_.attributes, **near}
    match type_.kind:
        case "union":
            cost = 1 + min((_cost(branch, near, known) for branch in type_.parts), default=_NONE)
        case "record":
            cost = 1 + sum(_cost(field.type, field.attributes, known) for field in type_.fields.values())
        case "array":
            least, _ = _sizes("array", limits, 0)
            cost = 1 + (least * known[type_.parts[0]] if least else 0)
        case "string" | "bytes" as kind:
            cost = 1 + _sizes(kind, limits, 0)[0]
        case "enum":
            cost = 1 if type_.symbols else _NONE
        case _:
            cost = 1 + type_.size
    return cost if cost <= MOST_OF_SMALLEST else _NONE


def _of_fields(values: Iterable[tuple[str, Golden]]) -> Golden:
    made = dict(values)
    return Golden({name: one.value for name, one in made.items()}, b"".join(one.avro for one in made.values()))


def _branch(position: int, chosen: Golden) -> Golden:
    return Golden(chosen.value, varint(position) + chosen.avro)


def _items(items: list[Golden]) -> Golden:
    avro = b"".join((varint(len(items)), *(one.avro for one in items), b"\0")) if items else b"\0"
    return Golden([one.value for one in items], avro)


def _map(value: Golden) -> Golden:
    return Golden({"key": value.value}, b"\x02\x06key" + value.avro + b"\0")


_EMPTY_MAP = Golden({}, b"\0")
_NO_LIMITS: Mapping[str, Any] = {}  # beside a type's own: those of a place that is no field


def _ends(type_: Type, limits: Mapping[str, Any]) -> list[Golden]:  # noqa: PLR0911 - one for each kind
    """Return the values of a type without parts: the least and the greatest, or each symbol."""
    match type_.kind:
        case "enum":
            return [Golden(symbol, varint(position)) for position, symbol in enumerate(type_.symbols)]
        case "null":
            return [Golden(None, b"")]
        case "boolean":
            return [Golden(False, b"\0"), Golden(True, b"\x01")]
        case "fixed":
            return [Golden(raw, raw) for raw in (bytes(type_.size), b"\xff" * type_.size)]
        case "int" | "long":
            ends = _LOGICAL.get((type_.kind, type_.logical)) or _numbers(type_.kind, limits)
            return [Golden(number, varint(number)) for number in map(int, ends)]
        case "float" | "double" as kind:
            form = FLOAT if kind == "float" else DOUBLE
            return [Golden(number, form.pack(number)) for number in _numbers(kind, limits)]
        case kind:
            shortest, longest = _sizes(kind, limits, 100)
            text = _LOGICAL.get((kind, type_.logical)) or ("a" * shortest, "é" * longest)
            values = text if kind == "string" else (bytes(shortest), b"\xff" * longest)
            raws = [value.encode() if isinstance(value, str) else value for value in values]
            return [Golden(value, varint(len(raw)) + raw) for value, raw in zip(values, raws, strict=True)]


def _numbers(kind: str, limits: Mapping[str, Any]) -> tuple[float, float]:
    (_, least), (_, greatest) = bounds(kind, limits) or AVROS[kind]
    if kind in {"int", "long"}:
        return math.ceil(least), math.floor(greatest)
    low = least if math.isfinite(least) else min(-1.5, greatest)
    ends = float(low), float(greatest if math.isfinite(greatest) else max(1.5, low))
    return ends if kind == "double" else (max(ends[0], -_FLOAT_MOST), min(ends[1], _FLOAT_MOST))


def _sizes(kind: str, limits: Mapping[str, Any], enough: int) -> tuple[int, int]:
    """Return the least and the greatest size; where no limit says how great, one that is enough."""
    (_, least), (_, greatest) = bounds(kind, limits) or AVROS[kind]
    return int(least), int(max(least, min(greatest, enough if math.isinf(greatest) else 10_000)))
