"""Where a JSON pointer points to in a text, for any legal JSON."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.positions import place

TEXT = """{
  "a": [1, {"b": null}],
\t"c/d~e": "x\\"]},:{[",
  "empty": [[], {}], "last": -1.5e3
}
"""


@pytest.mark.parametrize(
    ("pointer", "line", "column"),
    [
        ("", 1, 1),
        ("/a", 2, 8),
        ("/a/0", 2, 9),
        ("/a/1", 2, 12),
        ("/a/1/b", 2, 18),
        ("/c~1d~0e", 3, 11),
        ("/empty/0", 4, 13),
        ("/empty/1", 4, 17),
        ("/last", 4, 30),
    ],
)
def test_place(pointer: str, line: int, column: int) -> None:
    """Line and column count from 1."""
    assert place(TEXT, pointer) == (line, column)


def test_what_is_not_there_is_at_what_is_around_it() -> None:
    assert place(TEXT, "/a/1/nothing/at/all") == place(TEXT, "/a/1")
    assert place(TEXT, "/nothing") == (1, 1)


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    """As Python's json has it."""
    assert place('{"a": 1, "b": 2, "a": 3}', "/a") == (1, 23)


def test_an_escaped_key() -> None:
    assert place('{"\\u0061\\n": 1}', "/a\n") == (1, 14)


def test_deep_nesting_does_not_use_up_the_stack() -> None:
    deep = 50_000
    assert place("[" * deep + "]" * deep, "/0/0") == (1, 3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def pointers(value: Any, pointer: str = "") -> list[tuple[str, Any]]:
    """Give each value inside a value with its pointer."""
    inside: list[tuple[str, Any]] = []
    if isinstance(value, list):
        inside = [(str(number), one) for number, one in enumerate(value)]
    elif isinstance(value, dict):
        inside = [(key.replace("~", "~0").replace("/", "~1"), one) for key, one in value.items()]
    return [(pointer, value), *(found for key, one in inside for found in pointers(one, f"{pointer}/{key}"))]


@settings(derandomize=True, database=None, deadline=None)
@given(json_values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_any_json(value: Any, indent: Any, ascii_only: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """What begins at the place of a pointer is the value that it points to."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    lines = text.split("\n")
    for pointer, expected in pointers(value):
        line, column = place(text, pointer)
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        assert json.JSONDecoder().raw_decode(rest)[0] == expected
