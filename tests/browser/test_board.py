"""What a person sees on the board while the restaurant works, and while parts of it do not."""

from __future__ import annotations

import math
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.serialization import MessageField, SerializationContext
from playwright.sync_api import Page, expect

from contract.codec import RecordSerializer
from contract.order import OrderV1, OrderV2
from producer.publishing import RecordProducer, new_identity
from runtime.clients import producer_properties
from stack.local import LocalStack
from tests.browser.conftest import NARROW, WIDE
from tests.restaurant import Restaurant, Service, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
LIMIT = 30_000.0  # milliseconds
MENU = ("margherita", "napoli", "funghi", "margherita", "quattro stagioni", "napoli", "diavola", "margherita")
SCRIPT = "<script>alert(1)</script>"


def waiter(restaurant: Restaurant) -> RecordProducer[OrderV2]:
    """A waiter in this process, so that nobody waits for one to start."""
    return RecordProducer(restaurant.servers, restaurant.subject, OrderV2)


def order(pizza: str, table: int = 17) -> OrderV2:
    return OrderV2(pizza, table, new_identity())


def produce(restaurant: Restaurant, value: bytes) -> None:
    """Send bytes that no waiter would send."""
    producer = Producer(producer_properties(restaurant.servers.settings))
    producer.produce(restaurant.topic, value, "17", partition=0)
    assert producer.flush(30) == 0


def remember(restaurant: Restaurant) -> None:
    """Fill the topic with orders of the last two minutes, so that there is a line to draw."""
    serializer = RecordSerializer(OrderV2, restaurant.registry)
    context = SerializationContext(restaurant.topic, MessageField.VALUE)
    producer = Producer(producer_properties(restaurant.servers.settings))
    now = time.time()
    for ago in range(118, 2, -1):
        for number in range(round(5 + 2.5 * math.sin(ago / 11) + 1.5 * math.sin(ago / 3))):
            one = order(MENU[(ago + number) % len(MENU)], 1 + (ago * 5 + number * 7) % 12)
            value, placed = serializer(one, context), int((now - ago) * 1000)
            producer.produce(restaurant.topic, value, str(one.table), timestamp=placed)
    assert producer.flush(30) == 0


def lag(page: Page, group: str) -> int:
    """Give a group's lag as the page shows it, over all partitions; -1 while it shows none."""
    rows = [text.split() for text in page.locator("#lag tbody tr").all_inner_texts()]
    lags = [int(row[-1].replace(",", "")) for row in rows if row[0] == group]
    return sum(lags) if lags else -1


def wait_for_lag(page: Page, group: str, count: int) -> None:
    wait_until(lambda: lag(page, group) == count, what=f"a lag of {count} of the {group}")


def test_an_order_appears_within_a_second_of_being_published(page: Page, restaurant: Restaurant) -> None:
    """Of five, one after the other, most do: the machine of a test may be busy for once."""
    taking = waiter(restaurant)
    waited = []
    for number in range(5):
        taking.publish(order(f"napoli {number}", 10 + number))
        began = time.monotonic()
        expect(page.get_by_role("rowheader", name=f"napoli {number}", exact=True).first).to_be_visible(timeout=LIMIT)
        waited.append(time.monotonic() - began)
    assert statistics.median(waited) < 1.0
    row = page.locator("#orders tbody tr").first
    expect(row).to_have_text(re.compile(r"napoli 4\s*14\s*\d\d:\d\d:\d\d\s*[\d,]+ ms\s*2"))
    expect(page.locator("#tables tbody tr")).to_have_count(5)


def test_the_lag_grows_while_the_cook_is_away_and_then_shrinks(page: Page, restaurant: Restaurant) -> None:
    """And the page says who is in the group, or that nobody is."""
    taking, members = waiter(restaurant), page.locator("#members tbody tr", has_text="cook")
    cook = restaurant.start("cook")
    expect(members).to_contain_text("0, 1", timeout=LIMIT)
    taking.publish(order("funghi"))
    cook.wait_for_lines(1)
    cook.stop()
    taking.publish_all([[order("marinara", table) for table in range(1, 8)]], lambda _, reason: pytest.fail(reason))
    wait_for_lag(page, "cook", 7)
    expect(members).to_contain_text("Nobody", timeout=LIMIT)
    restaurant.start("cook")
    wait_for_lag(page, "cook", 0)


def test_a_message_that_cannot_be_read_is_shown_with_its_reason(page: Page, restaurant: Restaurant) -> None:
    """Its bytes are there, and who set it aside."""
    restaurant.start("cook")
    produce(restaurant, b"one margherita, please")
    letter = page.locator("#newest li")
    expect(letter).to_contain_text("cook: not-framed", timeout=LIMIT)
    expect(letter).to_contain_text("its first byte is 0x6f, not the magic byte 0")
    expect(letter).to_contain_text("6f 6e 65 20")
    expect(page.locator("#reasons tbody tr", has_text="not-framed")).to_have_text(re.compile(r"cook\s*not-framed\s*1"))


def test_an_identity_that_comes_again_is_shown(page: Page, restaurant: Restaurant) -> None:
    """Somebody may have taken it; as long as there is none, nothing is said of it."""
    taking, figure = waiter(restaurant), page.locator("#figures div", has_text="Order ids again")
    one = order("napoli")
    taking.publish(one)
    expect(page.locator("#orders tbody tr")).to_have_count(1, timeout=LIMIT)
    expect(page.locator("#orders")).to_contain_text("napoli", timeout=LIMIT)
    expect(figure).to_have_count(0)
    taking.publish(OrderV2("tonno", 9, one.order_id))
    expect(figure).to_have_text(re.compile(r"Order ids again, last 2\s*1"), timeout=LIMIT)


def test_a_new_version_is_in_the_matrix_once_it_is_released(page: Page, restaurant: Restaurant) -> None:
    """With its difference in words, whether the registry holds it, and who can read it."""
    released = restaurant.schemas / "released"
    newest = (released / "order.v2.avsc").read_text("utf-8")
    note = '{"name": "note", "type": "string", "default": "", "maxLength": 64, "doc": "A wish."}'
    for path in (released / "order.v3.avsc", restaurant.schemas / "order.avsc"):
        path.write_text(re.sub(r"\]\s*\}\s*$", f", {note}]}}\n", newest), "utf-8")
    row = page.locator("#versions tbody tr").nth(2)
    expect(row).to_contain_text("added `note` string", timeout=LIMIT)
    expect(row).to_contain_text("not in the registry")
    assert restaurant.register().returncode == 0
    expect(row).to_contain_text(re.compile(r"id \d"), timeout=LIMIT)
    expect(page.get_by_role("columnheader", name="written with 3")).to_be_visible()
    expect(page.locator("#matrix tbody tr", has_text="cook")).to_have_text(re.compile(r"cook.*(✓ reads\s*){3}"))


def test_the_brokers_absence_is_shown_and_ends(page: Page, restaurant: Restaurant, stack: LocalStack) -> None:
    """What was known stays, with its time; what came meanwhile is there afterwards."""
    waiter(restaurant).publish(order("diavola"))
    expect(page.get_by_role("rowheader", name="diavola", exact=True).first).to_be_visible(timeout=LIMIT)
    stack.kafka.stop()
    try:
        expect(page.locator("#problems")).to_contain_text("the broker does not answer", timeout=LIMIT)
        expect(page.locator("#status")).to_contain_text("Not all is known now, lags are of")
        expect(page.get_by_role("rowheader", name="diavola", exact=True).first).to_be_visible()
    finally:
        stack.kafka.start()
    expect(page.locator("#status")).to_have_text("Live", timeout=LIMIT)
    waiter(restaurant).publish(order("capricciosa"))
    expect(page.get_by_role("rowheader", name="capricciosa", exact=True).first).to_be_visible(timeout=LIMIT)


def test_a_pizza_that_is_a_script_is_text(page: Page, restaurant: Restaurant) -> None:
    """In the orders and in a dead letter; the fixture fails when the browser runs or refuses anything."""
    restaurant.start("cook")
    waiter(restaurant).publish(order(SCRIPT))
    produce(restaurant, SCRIPT.encode())
    expect(page.locator("#orders").get_by_role("rowheader", name=SCRIPT, exact=True)).to_be_visible(timeout=LIMIT)
    expect(page.locator("#newest pre")).to_contain_text("<script>alert(1)", timeout=LIMIT)
    assert page.locator("script").count() == 1


def test_the_board_leaves_nothing_behind(page: Page, restaurant: Restaurant) -> None:
    """No group, no committed offset, no topic: having looked changes nothing for anybody."""
    produce(restaurant, b"one margherita, please")
    waiter(restaurant).publish(order("napoli"))
    expect(page.get_by_role("rowheader", name="napoli", exact=True).first).to_be_visible(timeout=LIMIT)
    admin = AdminClient({"bootstrap.servers": restaurant.bootstrap_servers})
    assert [name for name in admin.list_topics(timeout=10).topics if restaurant.topic in name] == [restaurant.topic]
    groups = admin.list_consumer_groups(request_timeout=10).result().valid
    assert "board" not in {group.group_id for group in groups}


@pytest.fixture
def busy(board: Service, restaurant: Restaurant) -> Restaurant:
    """A restaurant in which there is something to see in every part of the board, which was there before it."""
    assert board.process.poll() is None
    restaurant.start("cook")
    restaurant.start("manager").wait_for_error("was given partitions")
    remember(restaurant)
    produce(restaurant, b"one margherita, please")
    taking, older = waiter(restaurant), RecordProducer(restaurant.servers, restaurant.subject, OrderV1)
    for number in range(24):
        taking.publish(order(MENU[number % len(MENU)], 1 + number * 7 % 12))
        if number % 4 == 0:
            older.publish(OrderV1("marinara", 3))
        time.sleep(0.1)  # so that not all are of one moment
    return restaurant


@pytest.mark.usefixtures("busy")
def test_it_can_be_used_by_all(open_page: Callable[..., Page], tmp_path: Path) -> None:
    """Axe finds nothing, light or dark, wide or narrow; nothing is cut off at the side; the skip link leads inside.

    SCREENSHOTS names a folder that keeps the pictures; README's is the wide, light one.
    """
    kept = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    for scheme in ("light", "dark"):
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            page = open_page(scheme, size)
            expect(page.locator("#newest pre").first).to_be_visible(timeout=LIMIT)
            expect(page.locator("#members tbody tr")).to_have_count(2, timeout=LIMIT)
            expect(page.locator("#orders tbody tr")).to_have_count(50, timeout=LIMIT)
            violations = Axe().run(page).response["violations"]
            assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in violations] == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.screenshot(path=kept / f"board-{scheme}-{name}.png", full_page=name == "narrow", animations="disabled")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the kitchen")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#kitchen")).to_be_focused()


@pytest.mark.skipif(not os.environ.get("BROWSER"), reason="takes longer; make test-browser runs it")
def test_fifty_thousand_orders_go_by(page: Page, restaurant: Restaurant) -> None:
    """The page stays as long as it was and answers, and counts agree in the end."""
    orders = restaurant.orders_file(
        "many.jsonl", *(f'{{"pizza": "napoli", "table": {1 + n % 30}}}' for n in range(50_000))
    )
    restaurant.start("cook")
    assert restaurant.waiter("--orders", str(orders)).returncode == 0
    expect(page.locator("#figures")).to_contain_text("50,000", timeout=LIMIT)
    wait_for_lag(page, "cook", 0)
    expect(page.locator("#orders tbody tr")).to_have_count(50)
    expect(page.locator("#pizzas caption")).to_have_text("By pizza, last 5,000")
