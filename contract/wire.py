"""Reads Avro binary by a plan: strictly, on a stack of its own, in time and memory that the message's bytes bound.

Knows the wire format (Avro specification, "Binary Encoding") and no schema: contract/resolution.py makes the plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Final, NoReturn, TypeAlias

from contract.errors import Reason, Unreadable
from contract.records import shorten
from contract.varint import DOUBLE, FLOAT

MAX_NESTING: Final = 500
"""Levels of records, arrays and maps in a message. A recursive schema allows any number; nobody's data need this."""
FREE_VALUES: Final = 4_096
"""Values without bytes (null, a fixed of size 0, a record without fields) that a message may have beside its length."""

# What a step of a plan reads. The first are by themselves, the last two lead to another step.
INTEGER, STRING, BYTES, BOOLEAN, FLOAT32, FLOAT64, FIXED, ENUM, NULL, NOTHING = range(10)
RECORD, ARRAY, MAP, UNREADABLE, UNION, ENTRY = range(10, 16)


class _Skip:
    """The key of what is read and dropped."""


class _Append:
    """The key of what is the next item of an array."""


SKIP: Final = _Skip()
APPEND: Final = _Append()
Key: TypeAlias = "str | _Skip | _Append"


_NO_DEFAULTS: dict[str, Any] = {}


def nothing_more() -> None:
    """Stand for the parts of what has none, or has them already."""


class Step:
    """What to read at one place of a message, and what becomes of the value.

    `parts` are a union's branches, or the value of an entry; `size` is a fixed's bytes or an integer's bits, and of
    an array or a map whether each item has bytes. Records, arrays and maps get their steps from `expand` when they are
    first met: recursive schemas have no end.
    """

    __slots__ = ("convert", "defaults", "expand", "op", "parts", "size", "steps", "symbols", "what")

    def __init__(self, op: int, *, size: int = 0, what: str = "") -> None:
        self.op = op
        self.size = size
        self.what = what  # why it cannot be read
        self.convert: Callable[[Any], Any] | None = None
        self.symbols: tuple[Any, ...] = ()  # of an enum, as the reader has them; None for one that it cannot take
        self.parts: tuple[Step, ...] = ()
        self.steps: tuple[tuple[Key, Step], ...] | None = None  # of a record, or the item of an array or a map
        self.defaults = _NO_DEFAULTS  # of a record: what was not written
        self.expand: Callable[[], None] = nothing_more


def read(data: bytes, start: int, plan: Step) -> tuple[Any, int]:
    """Return the value at an index of a message, and the index behind it.

    Raises Unreadable: truncated, malformed, not readable, or breaks a limit of what Python can hold.
    """
    try:
        return _read(data, start, plan)
    except IndexError:
        _truncated(data)


def _read(data: bytes, at: int, plan: Step) -> tuple[Any, int]:  # noqa: C901, PLR0912, PLR0915 - one loop: a call for each value would take as long as reading it
    end = len(data)
    free = end + FREE_VALUES
    found: dict[str, Any] = {}
    # Where values go, what is still to be read into it, and of an array or a map: its step, where its block must end.
    target: Any = found
    steps: Iterator[tuple[Key, Step]] = iter((("", plan),))
    blocks: Step | None = None
    block_end = -1
    value: Any
    stack: list[tuple[Any, Iterator[tuple[Key, Step]], Step | None, int]] = []
    while True:
        for key, step in steps:
            op = step.op
            if op >= UNION:
                if op == ENTRY:
                    size, at = _number(data, at, 64)
                    stop = at + size
                    if size < 0 or stop > end:
                        _bad_length(data, at, size)
                    if key is not SKIP:
                        try:
                            key = data[at:stop].decode()  # noqa: PLW2901
                        except UnicodeDecodeError:
                            _malformed(at, "a map's key that is not UTF-8")
                    at = stop
                    step = step.parts[0]  # noqa: PLW2901
                    op = step.op
                if op == UNION:
                    byte = data[at]
                    if byte < 128 and not byte & 1:  # noqa: PLR2004
                        index = byte >> 1
                        at += 1
                    else:
                        index, at = _number(data, at, 32)
                    if not 0 <= index < len(step.parts):
                        _malformed(at, f"branch {index} of a union of {len(step.parts)}")
                    step = step.parts[index]  # noqa: PLW2901
                    op = step.op
            if op == INTEGER:
                byte = data[at]
                if byte < 128:  # noqa: PLR2004 - most numbers have one byte, and a call takes longer
                    at += 1
                    value = (byte >> 1) ^ -(byte & 1)
                else:
                    value, at = _number(data, at, step.size)
            elif op <= BYTES:
                byte = data[at]
                if byte < 128 and not byte & 1:  # noqa: PLR2004
                    size = byte >> 1
                    at += 1
                else:
                    size, at = _number(data, at, 64)
                stop = at + size
                if size < 0 or stop > end:
                    _bad_length(data, at, size)
                value = data[at:stop]
                if op == STRING and key is not SKIP:
                    try:
                        value = value.decode()
                    except UnicodeDecodeError:
                        _malformed(at, "a string that is not UTF-8")
                at = stop
            elif op == NOTHING:
                value = None
            elif op >= RECORD:
                if op == UNREADABLE:
                    raise Unreadable(Reason.NOT_READABLE, step.what)
                if step.steps is None:
                    step.expand()
                if len(stack) >= MAX_NESTING:
                    sentence = f"it nests deeper than {MAX_NESTING} records, arrays and maps, at byte {at}"
                    raise Unreadable(Reason.NOT_READABLE, sentence)
                value = None
                if key is not SKIP:
                    value = step.defaults.copy() if op == RECORD else [] if op == ARRAY else {}
                    if key is APPEND:
                        target.append(value)
                    else:
                        target[key] = value
                stack.append((target, steps, blocks, block_end))
                target, block_end = value, -1
                if op == RECORD:
                    steps, blocks = iter(step.steps or ()), None
                    free -= not step.steps
                    if free < 0:
                        _too_many(data)
                else:
                    steps, blocks = iter(()), step
                break
            elif op == ENUM:
                index, at = _number(data, at, 32)
                if not 0 <= index < len(step.symbols):
                    _malformed(at, f"symbol {index} of an enum of {len(step.symbols)}")
                value = step.symbols[index]
                if value is None and key is not SKIP:
                    raise Unreadable(Reason.NOT_READABLE, step.what)
            elif op == BOOLEAN:
                byte = data[at]
                at += 1
                if byte > 1:
                    _malformed(at, f"a boolean of {byte:#04x}")
                value = byte == 1
            elif op == FLOAT64:
                if at + 8 > end:
                    _truncated(data)
                (value,) = DOUBLE.unpack_from(data, at)
                at += 8
            elif op == FLOAT32:
                if at + 4 > end:
                    _truncated(data)
                (value,) = FLOAT.unpack_from(data, at)
                at += 4
            elif op == FIXED:
                stop = at + step.size
                if stop > end:
                    _truncated(data)
                value = data[at:stop]
                free -= not step.size
                if free < 0:
                    _too_many(data)
                at = stop
            else:
                value = None
                free -= 1
                if free < 0:
                    _too_many(data)
            if key is SKIP:
                continue
            if step.convert is not None:
                try:
                    value = step.convert(value)
                except (ValueError, OverflowError, ArithmeticError) as error:
                    name = key if isinstance(key, str) and key.isidentifier() else "a value"  # or a map's key
                    raise Unreadable(Reason.BREAKS_LIMIT, f"{name[:100]} is {shorten(value)}, {error}") from None
            if key is APPEND:
                target.append(value)
            else:
                target[key] = value
        else:  # all is read that these steps say
            if blocks is not None:
                if block_end != -1 and block_end != at:  # noqa: PLR1714 - a set takes longer
                    _malformed(at, f"a block that was said to end at byte {block_end}")
                byte = data[at]
                if byte < 128 and not byte & 1:  # noqa: PLR2004
                    count = byte >> 1
                    at += 1
                else:
                    count, at = _number(data, at, 64)
                block_end = -1
                if count < 0:  # then the number of items is its absolute value, and the block's size in bytes follows
                    size, at = _number(data, at, 64)
                    block_end = at + size
                    count = -count
                    if size < 0 or block_end > end:
                        _bad_length(data, at, size)
                if count:
                    if blocks.size and count * blocks.size > end - at:
                        _truncated(data)
                    if count > free and not blocks.size:
                        _too_many(data)
                    steps = repeat((blocks.steps or ())[0], count)
                    continue
            if not stack:
                return found[""], at
            target, steps, blocks, block_end = stack.pop()


def _number(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """Return an int or a long, of 32 or 64 bits, and the index behind it; IndexError where the bytes end.

    Java refuses more than five or ten bytes, as here; a number of more bits is another one there, and refused here.
    """
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004
            break
        shift += 7
        if shift >= bits:
            _malformed(at, f"a number of more bytes than {bits} bits need")
    if number >> bits:
        _malformed(at, f"a number of more than {bits} bits")
    return (number >> 1) ^ -(number & 1), at


def _bad_length(data: bytes, at: int, size: int) -> NoReturn:
    if size < 0:
        _malformed(at, f"a length of {size}")
    _truncated(data)


def _truncated(data: bytes) -> NoReturn:
    raise Unreadable(Reason.TRUNCATED, f"its {len(data)} bytes end inside the record") from None


def _malformed(at: int, what: str) -> NoReturn:
    sentence = f"no writer of its schema wrote these bytes: {what}, before byte {at}"
    raise Unreadable(Reason.MALFORMED, sentence) from None


def _too_many(data: bytes) -> NoReturn:
    most = len(data) + FREE_VALUES
    raise Unreadable(
        Reason.MALFORMED, f"it has more values without bytes than the {most} that a message of its length may have"
    )
