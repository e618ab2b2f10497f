"""Where each part of a JSON document is: Python's json gives values without their places, and a finding names one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache

_TOKEN = re.compile(r'[{}\[\],:]|"[^"\\]*(?:\\.[^"\\]*)*"|[^\s{}\[\],:"]+')


def why_no_json(text: str) -> tuple[int, str] | None:
    """Return where, as an offset, a text that Python's json takes is no JSON to anybody else, and why."""
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word[0] == '"':
            if "\\u" in word and any("\ud800" <= letter <= "\udfff" for letter in json.loads(word)):
                return token.start(), f"{word[:40]} holds half of a surrogate pair: no text"
        elif word in {"NaN", "Infinity", "-Infinity"}:
            return token.start(), f"{word} is no number of JSON"
        elif word[0] in "-0123456789" and math.isinf(float(word)):
            return token.start(), f"{word[:40]} is larger than any double"
        elif word.lstrip("-").isdigit() and not -(1 << 63) <= int(word) < 1 << 63:
            return token.start(), f"{word[:40]} is larger than any long, and is to have an exponent"
    return None


def place(text: str, pointer: str) -> tuple[int, int]:
    """Give line and column, from 1, of what a JSON pointer (RFC 6901) points to, or of the nearest thing around it."""
    found = _offsets(text)
    while pointer and pointer not in found:
        pointer = pointer.rpartition("/")[0]
    return place_of(text, found.get(pointer, 0))


def place_of(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, from 1, of an offset."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


@lru_cache(maxsize=8)
def _offsets(text: str) -> Mapping[str, int]:
    """Give where each value of a legal JSON text begins, by its pointer; of a key given twice the last, as json."""
    found: dict[str, int] = {}
    around: list[tuple[str, int | None]] = []  # pointer and, of an array, position, of each container that is open
    here: str | None = ""  # the pointer of the value that comes next; None where a key comes
    for token in _TOKEN.finditer(text):
        kind = token[0]
        if kind in "]}":
            around.pop()
        elif kind == ",":
            pointer, position = around.pop()
            position = None if position is None else position + 1
            around.append((pointer, position))
            here = None if position is None else f"{pointer}/{position}"
        elif here is None:
            key = json.loads(kind).replace("~", "~0").replace("/", "~1")
            here = f"{around[-1][0]}/{key}"
        elif kind != ":":
            found[here] = token.start()
            if kind in "[{":
                around.append((here, 0 if kind == "[" else None))
                here = f"{here}/0" if kind == "[" else None
    return found
