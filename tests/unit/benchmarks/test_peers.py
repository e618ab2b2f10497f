"""What holds for the peers without running them against a broker."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks.peers import harness, ready_bytes
from contract.codec import encode
from contract.order import Order

PEERS = Path(harness.__file__).parent
LOCKED = sorted(PEERS.glob("*.txt"))


def job(orders: int = 0, warm_up: int = 0, rate: float = 0) -> harness.Job:
    """Give a job that nobody runs."""
    return harness.Job("", "", "", Order.SCHEMA, 7, "", orders, warm_up, rate)


@pytest.mark.parametrize("lock", LOCKED, ids=lambda path: path.stem)
def test_a_peers_lock_holds_what_its_first_lines_ask_for(lock: Path) -> None:
    script = lock.with_suffix(".py").read_text("utf-8")
    block = re.search(r"^# /// script\n(.*?)^# ///$", script, re.MULTILINE | re.DOTALL)
    assert block is not None
    asked = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))["dependencies"]
    pins = lock.read_text("utf-8")
    for requirement in asked:
        name, _, version = requirement.partition("==")
        name = name.partition("[")[0]
        assert re.search(rf"^{name}(\[[^]]*\])?=={re.escape(version)} ", pins, re.MULTILINE), requirement


def test_ready_bytes_are_what_every_peer_publishes() -> None:
    """The limit moves the same bytes, else it would be no limit."""
    for order in harness.orders(300):
        assert ready_bytes.value_of(job(), order) == b"\0\0\0\0\7" + encode(Order(*order))


def test_the_orders_are_the_same_every_time_and_each_has_an_identity_of_36_characters() -> None:
    some = list(harness.orders(1_000))
    assert some == list(harness.orders(1_000))
    assert some[100:] == list(harness.orders(900, 100))
    assert {len(identity) for _, _, identity in some} == {36}
    assert len({identity for _, _, identity in some}) == len(some)


def test_the_meter_leaves_the_warm_up_out(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock starts where the warm-up ends, and stops at the last order."""
    reported: list[dict[str, float | str]] = []
    monkeypatch.setattr(harness, "report", lambda **measured: reported.append(measured))
    meter = harness.Meter(job(orders=100, warm_up=50))
    assert [meter.add(30, "some") for _ in range(5)] == [False, False, False, False, True]
    assert [measured["orders"] for measured in reported] == [90]
    assert capfd.readouterr().out == ""


def test_orders_are_paced_and_none_is_left_out() -> None:
    assert sum(harness.paced(job(orders=50, warm_up=10, rate=100_000))) == 60


def test_a_stamp_is_an_identity_that_holds_the_time() -> None:
    stamps = [harness.stamp() for _ in range(10)]
    assert {len(one) for one in stamps} == {36}
    assert all(int(a) <= int(b) for a, b in itertools.pairwise(stamps))
