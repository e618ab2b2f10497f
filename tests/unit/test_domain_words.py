"""The project is generic but for the restaurant: with other schemas and services it is another pipeline.

The rule: in code, the words of the restaurant stand only where a service, its contract or its deployment is. Besides,
the docstrings of `producer` and `consumers` name who is inside, for a reader who comes from the workshop.
"""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
GENERIC = ("contract", "runtime", "producer", "consumers", "scripts", "stack", "benchmarks")
RESTAURANT = {
    "contract/order.py",
    "producer/__init__.py",
    "producer/waiter.py",
    "consumers/__init__.py",
    "consumers/cook.py",
    "consumers/manager.py",
    "scripts/demo.py",
    "scripts/demo_board.py",
    "scripts/up.py",  # starts the restaurant's containers
}
SERVED = ("consumers/board/", "benchmarks/")
WORDS = re.compile(
    r"pizzas?|margherita|restaurant|waiters?|cooks?|managers?|chefs?|tables? \d+|order_id|OrderV\d",
    re.IGNORECASE,
)


def sources() -> list[Path]:
    """Give every source file of the packages."""
    return [path for package in GENERIC for path in sorted((PROJECT / package).rglob("*.py"))]


def found(text: str) -> list[str]:
    """Give the restaurant's words in a text, each line of it once."""
    words = re.compile(rf"(?<![A-Za-z])(?<!context )({WORDS.pattern})(?![a-z])", re.IGNORECASE)
    return [line.strip() for line in text.splitlines() if words.search(line)]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_generic_code_has_no_word_of_the_restaurant(path: Path) -> None:
    name = str(path.relative_to(PROJECT))
    if name in RESTAURANT or name.startswith(SERVED):
        return
    assert found(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    ["a pizza", "def cook(", "the manager's", "cook_orders", "Waiter", "OrderV1", "value.order_id", "a table 17"],
)
def test_a_word_is_found_however_it_is_written(line: str) -> None:
    assert found(line) == [line]


@pytest.mark.parametrize(
    "line",
    ["@contextmanager", "a context manager", "AbstractContextManager", "in order", "CREATE TABLE {table}", "await"],
)
def test_words_that_are_everybodys_are_not(line: str) -> None:
    assert found(line) == []


def test_what_is_excepted_exists() -> None:
    """An exception whose file has gone is removed from the list."""
    assert [name for name in sorted(RESTAURANT) if not (PROJECT / name).exists()] == []
