"""The workshop's sentence, which cook and manager share."""

import pytest

from consumers.batches import Received
from consumers.cook import prepare, sentence
from contract.order import OrderV1, OrderV2
from tests.batches import batch_of


def test_the_workshops_sentence_word_for_word() -> None:
    assert sentence(OrderV1("margherita", 17)) == "Received an order for a pizza margherita at table 17 !"


def test_an_order_of_any_version_has_the_same_sentence() -> None:
    assert (
        sentence(OrderV2("quattro stagioni", 3, "x")) == "Received an order for a pizza quattro stagioni at table 3 !"
    )


@pytest.mark.parametrize(
    ("pizza", "shown"),
    [
        ("calzone à l'œuf 🍕", "calzone à l'œuf 🍕"),
        ("a\nReceived an order", r"a\nReceived an order"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\u2028b", r"a\u2028b"),
        ("\u202etxet", r"\u202etxet"),
        ("\r", r"\r"),
    ],
)
def test_a_name_cannot_forge_a_line_or_paint_a_terminal(pizza: str, shown: str) -> None:
    assert sentence(OrderV1(pizza, 1)) == f"Received an order for a pizza {shown} at table 1 !"
    assert len(sentence(OrderV1(pizza, 1)).splitlines()) == 1


def test_the_cook_prints_a_line_for_each_order_of_a_batch_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    orders = [OrderV1("margherita", 1), OrderV1("funghi", 2)]
    prepare(batch_of([Received(order, 0, offset, 0) for offset, order in enumerate(orders)], {0: 2}))
    output = capsys.readouterr()
    assert output.out == (
        "Received an order for a pizza margherita at table 1 !\nReceived an order for a pizza funghi at table 2 !\n"
    )
    assert output.err == ""
