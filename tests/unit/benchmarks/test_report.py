"""What the benchmark makes of its measures; no server, no clock."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import report

COMMITTED = {
    "publish/ours": [600_000.0, 700_000.0, 650_000.0],
    "publish/confluent_serdes": [100_000.0, 200_000.0, 150_000.0],
    "cpu-publish/ours": [1.5],
    "one/waiter/wall": [0.3],
    "one/confluent_serdes/wall": [0.6],
}
RESULT: dict[str, Any] = {
    "date": "2026-01-01",
    "machine": {"cores": 2, "processor": "A & B", "memory_gb": 4, "system": "Linux", "python": "3.11", "broker": "far"},
    "versions": {"fastavro": "1.13"},
    "orders": 500_000,
    "rounds": 5,
    "measures": COMMITTED,
}


def test_a_slower_machine_is_no_loss() -> None:
    """Ratios to the peer of the same run are compared, never orders a second."""
    slower = {name: [value / 10 for value in values] for name, values in COMMITTED.items()}
    assert report.compare(slower, COMMITTED) == []


def test_a_loss_within_a_fifth_is_noise() -> None:
    assert report.compare(COMMITTED | {"publish/ours": [650_000 * 0.81]}, COMMITTED) == []


def test_a_larger_loss_is_a_sentence() -> None:
    lost = report.compare(COMMITTED | {"publish/ours": [650_000 * 0.7]}, COMMITTED)
    assert lost == ["publish/ours is 3.03 x publish/confluent_serdes, it was 4.33 x: a loss of 30%"]


def test_more_time_is_a_loss_too() -> None:
    assert len(report.compare(COMMITTED | {"one/waiter/wall": [0.45]}, COMMITTED)) == 1
    assert report.compare(COMMITTED | {"one/waiter/wall": [0.1]}, COMMITTED) == []


def test_what_was_not_measured_is_not_compared() -> None:
    assert report.compare({"publish/ours": [1.0]}, COMMITTED) == []


def test_every_target_has_a_line_that_says_whether_it_is_met() -> None:
    lines = report.targets(COMMITTED).splitlines()
    assert len(lines) == len(report.TARGETS.strip().splitlines())
    assert lines[0].startswith("yes ")
    assert lines[0].endswith(" 4.33")
    assert lines[1].startswith("- ")


@pytest.mark.parametrize(("seconds", "met"), [(1.4, "yes"), (1.6, "no")])
def test_a_target_may_be_a_difference(seconds: float, met: str) -> None:
    lines = report.targets({"sizes/10000000/manager/start": [seconds], "sizes/10/manager/start": [0.5]}).splitlines()
    assert [line for line in lines if line.startswith((met, "yes", "no"))] == [lines[-1]]
    assert lines[-1].startswith(met)


def test_a_target_on_time_per_order_leaves_out_what_ten_orders_take() -> None:
    measures = {"sizes/10/waiter/seconds": [1.0], "sizes/100000/waiter/seconds": [2.0], "sizes/10/manager/rate": [4.0]}
    medians = report.medians_of(measures)
    assert medians["sizes/100000/waiter/each"] == pytest.approx(1e-5)
    assert medians["sizes/10/manager/each"] == 0.25


def test_the_chart_is_an_image_with_every_peer_the_machine_and_the_versions() -> None:
    image = report.chart(RESULT)
    text = " ".join(ET.fromstring(image).itertext())  # noqa: S314 - made a line above
    for shown in ("this project", "Confluent's serdes", "650,000", "150,000", "A & B", "fastavro 1.13", "2026-01-01"):
        assert shown in text


def test_bars_are_as_long_as_the_medians() -> None:
    widths = [int(bar.attrib["width"]) for bar in ET.fromstring(report.chart(RESULT)).iter() if "rect" in bar.tag]  # noqa: S314 - ours
    assert widths == [340, round(340 * 150 / 650)]


def test_a_documents_block_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "scaling.md"
    document.write_text("before\n<!-- peers: written by make bench -->\nold\n<!-- peers ends -->\nafter\n", "utf-8")
    report.fill(document, "peers", report.peers_table(COMMITTED))
    once = document.read_text("utf-8")
    report.fill(document, "peers", report.peers_table(COMMITTED))
    assert document.read_text("utf-8") == once
    assert "| this project | 650,000 | 600,000 to 700,000 | 1.50 µs | yes |" in once
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("after\n")


def test_a_document_without_the_marks_is_a_defect(tmp_path: Path) -> None:
    document = tmp_path / "scaling.md"
    document.write_text("nothing\n", "utf-8")
    with pytest.raises(ValueError, match="no marks for peers"):
        report.fill(document, "peers", "text")


def test_the_marks_are_in_the_documents_that_the_benchmark_rewrites() -> None:
    text = (report.ROOT / "docs" / "scaling.md").read_text("utf-8")
    for block in ("peers", "scaling"):
        assert f"<!-- {block}: written by make bench -->" in text
        assert f"<!-- {block} ends -->" in text
