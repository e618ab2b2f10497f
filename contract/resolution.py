"""Plans how a reader's schema reads what a writer's wrote, as Java Avro does (Avro specification, "Schema Resolution").

A plan is made as far as messages reach into it: the part for a record, an array or a map when one is first met.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from contract import wire
from contract.avro_schema import Field, Type, is_value
from contract.compatibility import PROMOTIONS, compare, same_name
from contract.errors import Reason, Unreadable
from contract.varint import FLOAT
from contract.wire import APPEND, SKIP, Key, Step

Convert = Callable[[Any], Any]


def plan(reader: Type, writer: Type) -> Step:
    """Return how to read a value of the writer's schema as one of the reader's."""
    return _Resolution().step(reader, writer)


def default_of(type_: Type, default: Any) -> Any:
    """Return the value that a default stands for; of a union, that of the first branch that it fits.

    Raises ValueError where it is no value of its type, as one in a released schema may be.
    """
    if not is_value(type_, default):
        raise ValueError(f"{default!r} is no value of {type_}")
    match type_.kind:
        case "union":
            return default_of(next(branch for branch in type_.parts if is_value(branch, default)), default)
        case "record":
            fields = type_.fields.values()
            return {field.name: default_of(field.type, default.get(field.name, field.default)) for field in fields}
        case "array":
            return [default_of(type_.parts[0], item) for item in default]
        case "map":
            return {key: default_of(type_.parts[0], value) for key, value in default.items()}
        case "bytes":
            value: Any = default.encode("latin-1", "replace")
        case "fixed":
            value = default.encode("latin-1", "replace")[: type_.size].ljust(type_.size, b"\0")
        case "float":
            value = to_float(default)
        case "double":
            value = float(default)
        case _:
            value = default
    logical = _logical(type_, type_)
    return value if logical is None else logical(value)


def to_float(number: float) -> float:
    """Return the 32-bit float nearest to a number, as Java's cast has it: an integer is rounded once."""
    if isinstance(number, int) and abs(number) >= 1 << 53:
        # What a double cannot hold is kept as one bit below all that a float looks at.
        kept = abs(number) >> 16 << 16 | bool(abs(number) & 0xFFFF) << 16
        number = -kept if number < 0 else kept
    try:
        value: float = FLOAT.unpack(FLOAT.pack(number))[0]
    except OverflowError:
        return float("-inf") if number < 0 else float("inf")
    return value


class _Resolution:
    """The steps of one pair of schemas; those of a recursive type lead back to themselves."""

    def __init__(self) -> None:
        self._records: dict[tuple[Type | None, Type], Step] = {}

    def step(self, reader: Type | None, writer: Type) -> Step:
        """Return the step that reads one type as another; None as the reader drops the value."""
        shapes = (reader.shape, writer.shape) if reader is not None else ("", "")
        shared = _SHARED.get(shapes)
        if shared is not None:
            return shared
        step = self._union(reader, writer) if writer.kind == "union" else self._single(reader, writer)
        if all(shapes):
            if len(_SHARED) >= _MOST_SHARED:
                _SHARED.clear()
            _SHARED[shapes] = step
        return step

    def _union(self, reader: Type | None, writer: Type) -> Step:
        """Any branch may be met; that none of the reader's reads it is said when it is."""
        step = Step(wire.UNION)
        parts = [self.step(reader, branch) for branch in writer.parts]
        step.parts = tuple([_NOTHING if part is _NULL else part for part in parts])  # a null has its branch's byte
        return step

    def _single(self, reader: Type | None, writer: Type) -> Step:
        if reader is not None:
            branch = _branch(reader, writer)
            if branch is None:
                what = str(_no_way(f"{reader} cannot be read from {writer}"))
                return Step(wire.UNREADABLE, what=what)
            reader = branch
        match writer.kind:
            case "null":
                return _NULL
            case "record":
                return self._record(reader, writer)
            case "array" | "map":
                return self._collection(reader, writer)
            case "enum":
                return _enum(reader, writer)
            case _:
                return _plain(reader, writer)

    def _record(self, reader: Type | None, writer: Type) -> Step:
        if (reader, writer) in self._records:
            return self._records[reader, writer]
        step = self._records[reader, writer] = Step(wire.RECORD)

        def expand() -> None:
            sources = {} if reader is None else _sources(reader, writer)
            if reader is not None:
                step.defaults = _defaults(reader, writer, sources)
            steps: list[tuple[Key, Step]] = []
            for name, field in writer.fields.items():
                target = sources.get(name)
                if target is None:
                    steps.append((SKIP, self.step(None, field.type)))
                    continue
                shared = _SHARED.get((target.type.shape, field.type.shape))
                steps.append((target.name, shared or self.step(target.type, field.type)))
            step.steps, step.expand = tuple(steps), wire.nothing_more  # a step that leads to itself is freed late

        step.expand = expand
        return step

    def _collection(self, reader: Type | None, writer: Type) -> Step:
        is_array = writer.kind == "array"
        # A map's entry has its key: one byte at least.
        step = Step(wire.ARRAY if is_array else wire.MAP, size=int(not is_array or has_bytes(writer.parts[0])))

        def expand() -> None:
            item = self.step(None if reader is None else reader.parts[0], writer.parts[0])
            if not is_array:
                entry = Step(wire.ENTRY)
                entry.parts = (item,)
                item = entry
            key: Key = SKIP if reader is None else APPEND
            step.steps, step.expand = ((key, item),), wire.nothing_more

        step.expand = expand
        return step


_MOST_SHARED = 1_000
_SHARED: dict[tuple[str, str], Step] = {}
"""The steps of pairs of types that are all said by their shapes, as most fields of most schemas are."""

_NULL = Step(wire.NULL)
_NOTHING = Step(wire.NOTHING)
_OPS = {
    "boolean": (wire.BOOLEAN, 0),
    "int": (wire.INTEGER, 32),
    "long": (wire.INTEGER, 64),
    "float": (wire.FLOAT32, 0),
    "double": (wire.FLOAT64, 0),
    "string": (wire.STRING, 0),
    "bytes": (wire.BYTES, 0),
}


def _matches(reader: Type, writer: Type) -> bool:
    """Whether two types that are no unions resolve, apart from what is inside them."""
    if reader.kind != writer.kind:
        return writer.kind in PROMOTIONS.get(reader.kind, ())
    return not reader.name or (same_name(reader, writer) and reader.size == writer.size)


def _branch(reader: Type, writer: Type) -> Type | None:
    """Choose what reads: of a reader's union a branch of the same type and full name, of the same name, or promoted."""
    found = [branch for branch in (reader.parts if reader.kind == "union" else (reader,)) if _matches(branch, writer)]
    if len(found) < 2:  # noqa: PLR2004 - as in most unions
        return found[0] if found else None
    same = [branch for branch in found if branch.kind == writer.kind]
    exact = [branch for branch in same if branch.name == writer.name]
    if not exact:
        exact = [branch for branch in same if not compare(branch, writer)]
    return (exact or same or found)[0]


def _sources(reader: Type, writer: Type) -> Mapping[str, Field]:
    """Return the reader's field for each of the writer's that it knows, by the writer's name."""
    found: dict[str, Field] = {}
    renamed: dict[str, Field] = {}
    for field in reader.fields.values():
        if not field.aliases:
            if field.name in writer.fields:
                found[field.name] = field
            continue
        names = [name for name in (field.name, *field.aliases) if name in writer.fields]
        if len(names) > 1:
            raise _no_way(f"its field `{field.name}` could be any of {', '.join(names)}")
        (found if field.name in names else renamed).update(dict.fromkeys(names, field))
    return renamed | found if renamed else found


def _defaults(reader: Type, writer: Type, sources: Mapping[str, Field]) -> dict[str, Any]:
    """Return the values of the fields that were not written."""
    found = {}
    written = set(sources.values())
    for field in [field for field in reader.fields.values() if field not in written]:
        if field.default is ...:
            raise _no_way(f"{writer} has no field `{field.name}`, which has no default")
        try:
            found[field.name] = default_of(field.type, field.default)
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise _no_way(f"the default of `{field.name}` cannot be used: {error}") from None
    return found


def _enum(reader: Type | None, writer: Type) -> Step:
    step = Step(wire.ENUM)
    step.symbols = writer.symbols
    if reader is not None:
        instead = reader.default if reader.default in reader.symbols else None
        step.symbols = tuple(symbol if symbol in reader.symbols else instead for symbol in writer.symbols)
        step.what = str(_no_way(f"it has neither the symbol of {writer} that was written nor a default"))
    return step


def _plain(reader: Type | None, writer: Type) -> Step:
    op, size = _OPS.get(writer.kind) or (wire.FIXED, writer.size)
    step = Step(op, size=size)
    if reader is not None:
        converts = [_PROMOTED.get((writer.kind, reader.kind)), _logical(reader, writer)]
        step.convert = _chain([convert for convert in converts if convert is not None])
    return step


def _chain(converts: list[Convert]) -> Convert | None:
    if len(converts) < 2:  # noqa: PLR2004
        return converts[0] if converts else None
    first, second = converts
    return lambda value: second(first(value))


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ValueError("which is no text in UTF-8") from None


_PROMOTED: Mapping[tuple[str, str], Convert] = {
    ("int", "float"): to_float,
    ("long", "float"): to_float,
    ("int", "double"): float,
    ("long", "double"): float,
    ("string", "bytes"): str.encode,
    ("bytes", "string"): _text,
}


def has_bytes(type_: Type) -> bool:
    """Whether each value of a type has a byte at least; what is inside itself is not asked twice."""
    seen: set[Type] = set()
    todo = [type_]
    while todo:
        one = todo.pop()
        if one.kind == "record" and one not in seen:
            seen.add(one)
            todo += [field.type for field in one.fields.values()]
        elif one.kind not in {"null", "record", "fixed"} or one.size:
            return True
    return False


def _no_way(what: str) -> Unreadable:
    return Unreadable(Reason.NOT_READABLE, f"this reader's schema does not resolve it: {what[:_LONGEST_REASON]}")


_LONGEST_REASON = 300  # characters: it quotes the schemas


_MOST_DIGITS = 10_000  # of a decimal, whatever its schema says: to make one takes time with the square of its digits
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LOCAL_EPOCH = _EPOCH.replace(tzinfo=None)


def _time(micros: int) -> datetime.time:
    moment = _LOCAL_EPOCH + datetime.timedelta(microseconds=micros)
    if moment.date() != _LOCAL_EPOCH.date():
        raise ValueError("which is no time of a day")
    return moment.time()


_LOGICAL: Mapping[tuple[str, str], Convert] = {
    ("string", "uuid"): uuid.UUID,
    ("int", "date"): lambda days: datetime.date.fromordinal(days + _EPOCH.toordinal()),
    ("int", "time-millis"): lambda millis: _time(millis * 1000),
    ("long", "time-micros"): _time,
    ("long", "timestamp-millis"): lambda millis: _EPOCH + datetime.timedelta(microseconds=millis * 1000),
    ("long", "timestamp-micros"): lambda micros: _EPOCH + datetime.timedelta(microseconds=micros),
    ("long", "local-timestamp-millis"): lambda millis: _LOCAL_EPOCH + datetime.timedelta(microseconds=millis * 1000),
    ("long", "local-timestamp-micros"): lambda micros: _LOCAL_EPOCH + datetime.timedelta(microseconds=micros),
}


def _logical(reader: Type, writer: Type) -> Convert | None:
    """Return what makes of a value that of the reader's logical type; it raises ValueError, or OverflowError."""
    if reader.logical != "decimal":
        return _LOGICAL.get((reader.kind, reader.logical))
    # Whatever scale the reader states, the writer's digits are as the writer meant them.
    scale = (writer if writer.logical == "decimal" else reader).attributes.get("scale", 0)
    digits = min(reader.attributes["precision"], _MOST_DIGITS)
    least, context = 10**digits, decimal.Context(digits, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)

    def convert(raw: bytes) -> decimal.Decimal:
        number = int.from_bytes(raw, "big", signed=True)
        if abs(number) >= least:
            raise ValueError(f"which has more than {digits} digits")
        return decimal.Decimal(number).scaleb(-scale, context)

    return convert
