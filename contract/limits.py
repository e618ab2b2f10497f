"""Limits: what a schema may state beside a type, in JSON Schema's words, and Avro's own bounds where it states nothing.

The one table of them; the gate compares them, the generated types keep them, and golden bytes reach their ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

Bound: TypeAlias = tuple[str, float]  # a limit's word and its value
Bounds: TypeAlias = tuple[Bound, Bound]  # the least and the greatest that is allowed

AVROS: Mapping[str, Bounds] = {
    "int": (("minimum", -(2**31)), ("maximum", 2**31 - 1)),
    "long": (("minimum", -(2**63)), ("maximum", 2**63 - 1)),
    **dict.fromkeys(("float", "double"), (("minimum", -math.inf), ("maximum", math.inf))),
    **dict.fromkeys(("string", "bytes"), (("minLength", 0), ("maxLength", math.inf))),
    "array": (("minItems", 0), ("maxItems", math.inf)),
}
"""By type (Avro specification, "Primitive Types"); a type that is not here has no limits."""

WORDS = frozenset(word for bounds in AVROS.values() for word, _ in bounds)


def bounds(kind: str, *stated: Mapping[str, Any]) -> Bounds | None:
    """Give the bounds of a type where it is used: as stated, the nearest first (a field's, a type's), else Avro's."""
    if kind not in AVROS:
        return None
    least, greatest = (
        (word, next((near[word] for near in stated if is_number(near.get(word))), own)) for word, own in AVROS[kind]
    )
    return least, greatest


def allows(kind: str, value: Any, *stated: Mapping[str, Any]) -> bool:
    """Tell whether a value of a type, as JSON has it, keeps its bounds."""
    size = len(value) if isinstance(value, str | list) else value
    found = bounds(kind, *stated)
    return found is None or not is_number(size) or found[0][1] <= size <= found[1][1]


def why_wrong(kind: str, *stated: Mapping[str, Any]) -> str:
    """Say what is wrong with the limits that a schema states for a type; empty when they are limits."""
    for word, own in AVROS.get(kind, ()):
        for value in (near[word] for near in stated if word in near):
            whole = kind not in {"float", "double"}
            if not is_number(value) or (whole and not isinstance(value, int)):
                return f"{word} is {value!r}, and is to be a {'whole ' if whole else ''}number"
            if word.startswith("min") and value < own:
                return f"{word} is {value}, and is to be {own} or more"
            if word.startswith("max") and value > own:
                return f"{word} is {value}, and is to be {own} or less"
    found = bounds(kind, *stated)
    if found is not None and found[0][1] > found[1][1]:
        (low, least), (high, greatest) = found
        return f"{low} {least} and {high} {greatest} leave no value"
    return ""


def is_number(value: Any) -> bool:
    """Tell a number from what JSON has else, true and false among it."""
    return isinstance(value, int | float) and not isinstance(value, bool)
