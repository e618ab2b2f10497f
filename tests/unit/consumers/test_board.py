"""What the board keeps, and for how long."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from confluent_kafka import Message

from consumers.board.state import NEWEST, SECONDS, TOP, WINDOW, Board
from consumers.board.watch import LETTERS, Kept, Letters
from consumers.letters import Letter
from consumers.observe import Observed
from contract.errors import Reason, TopicError, Unavailable, Unreadable
from contract.order import OrderV2
from runtime.groups import Group

START = 1_800_000_000.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def observed(
    offset: int, pizza: str = "napoli", table: int = 1, placed: float = START, order_id: str = ""
) -> Observed[OrderV2]:
    return Observed(0, offset, int(placed * 1000), 2, OrderV2(pizza, table, order_id))


def kitchen(board: Board) -> Any:
    return json.loads(board.encode("kitchen"))


def test_a_million_orders_take_no_more_room_than_a_few_thousand() -> None:
    """Even when all are of other pizzas and tables, at 200 a second for over an hour, and nobody looks."""
    clock = Clock()
    board = Board(clock)
    orders = [
        [observed(n, f"pizza {n}", n + 1) for n in range(start, start + 1_000)] for start in range(0, 20_000, 1_000)
    ]
    for _ in range(50):
        for batch in orders:
            clock.now += 5
            board.take([observed(0, placed=clock.now), *batch[1:]])
    window = board.window
    assert (len(window.orders), len(board.next_offsets)) == (WINDOW, 1)
    assert len(window.by_second) <= 2 * SECONDS
    assert len(kitchen(board)["newest"]) == NEWEST
    assert len(board.encode("kitchen")) < 16_000


def test_what_leaves_the_window_is_counted_no_more() -> None:
    board = Board(Clock())
    board.take([observed(0, "marinara", 9), *(observed(1 + n) for n in range(WINDOW))])
    shown = kitchen(board)
    assert (shown["pizzas"], shown["tables"], shown["window"]) == ([["napoli", WINDOW]], [[1, WINDOW]], WINDOW)


def test_the_newest_orders_come_first_and_the_most_wanted_only() -> None:
    board = Board(Clock())
    board.take([observed(n, f"pizza {n}") for n in range(3 * TOP)])
    shown = kitchen(board)
    assert [one["place"] for one in shown["newest"]][:3] == ["0/23", "0/22", "0/21"]
    assert len(shown["pizzas"]) == TOP


def test_orders_are_counted_in_the_second_in_which_they_were_placed() -> None:
    """Those of before the two minutes not at all, and those of a clock that is ahead now."""
    clock = Clock()
    board = Board(clock)
    board.take([observed(n, placed=START + ahead) for n, ahead in enumerate((-SECONDS - 1, -3, -3, -1, 900))])
    clock.now = START + 1
    rates = kitchen(board)["rates"]
    assert (len(rates), rates[-4:], sum(rates)) == (SECONDS, [2, 0, 1, 1], 4)


def test_only_an_order_that_came_while_the_board_was_there_was_on_the_way() -> None:
    clock = Clock()
    board = Board(clock)
    clock.now = START + 2
    board.take([observed(0, placed=START - 60), observed(1, placed=START + 1.5)])
    assert [one["way"] for one in kitchen(board)["newest"]] == [0.5, None]


def test_a_schema_id_is_shown_as_the_version_that_it_is() -> None:
    """As soon as the registry has told; until then, and for one that is none of ours, as what the bytes say."""
    board = Board(Clock())
    board.take([observed(0)])
    assert kitchen(board)["versions"] == [["id 2", 1]]
    board.take_part("contract", {}, {2: 1})
    assert kitchen(board)["versions"] == [["1", 1]]


def test_what_cannot_be_read_is_counted_and_passed_by() -> None:
    board = Board(Clock())
    board.take([Observed(0, 7, 0, None, Unreadable(Reason.TOO_SHORT, "it has 2 bytes"))])
    assert (kitchen(board)["unreadable"], kitchen(board)["newest"], board.next_offsets) == (1, [], {0: 8})


def test_an_identity_that_comes_again_is_counted_while_it_is_in_the_window() -> None:
    """Orders without one, which version 1 writes, are no repetition of each other."""
    board = Board(Clock())
    board.take([observed(n, order_id=order_id) for n, order_id in enumerate(("a", "b", "a", "", "", "a"))])
    assert kitchen(board)["repeated"] == 2
    board.take([observed(n, order_id=f"other {n}") for n in range(WINDOW)])
    assert kitchen(board)["repeated"] == 0


def test_the_lag_is_counted_from_what_the_topic_still_has() -> None:
    """A group that has committed nothing, or what is deleted by now, is behind by all that there is."""
    board = Board(Clock())
    board.take_groups({0: (10, 30), 1: (0, 5), 2: (4, 4)}, [Group("cook", "stable", (), {0: 25, 2: 2})])
    partitions = kitchen(board)["groups"][0]["partitions"]
    assert [(one["committed"], one["lag"]) for one in partitions] == [(25, 5), (None, 5), (2, 0)]


def test_of_a_letter_only_what_is_shown_is_kept() -> None:
    """Twenty of the largest would take 320 MiB for each consumer."""
    letters = Letters("cook")
    for offset in range(LETTERS + 1):
        message = Message(topic="cook.dead-letters", value=bytes(1_000_000))
        letters.take(Letter(offset, "pizza-order", 0, offset, 0, "not-framed", "it is not", message))
    assert (letters.next_offset, letters.reasons) == (LETTERS + 1, {"not-framed": LETTERS + 1})
    assert [one["size"] for one in letters.newest] == [1_000_000] * LETTERS
    assert len(json.dumps([*letters.newest])) < 1_000 * LETTERS


@pytest.mark.parametrize(("patience", "made"), [(3600.0, 1), (0.0, 2)])
def test_what_a_look_asks_by_is_kept_until_it_has_failed_for_long(patience: float, made: int) -> None:
    """It may still be connecting; and that there is no topic is an answer."""
    numbers = count(1)
    asking = Kept(lambda: next(numbers), patience)
    with pytest.raises(TopicError), asking.use():
        raise TopicError("there is none")
    with asking.use() as number:
        assert number == 1
    with pytest.raises(Unavailable), asking.use():
        raise Unavailable("nobody answers")
    with asking.use() as number:
        assert number == made


def test_a_problem_is_told_until_it_is_over() -> None:
    board = Board(Clock())
    board.tell("groups", "the broker does not answer")
    assert kitchen(board)["problems"] == {"groups": "the broker does not answer"}
    board.tell("groups", None)
    assert kitchen(board)["problems"] == {}
