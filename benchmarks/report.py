"""What becomes of the measures: a table, the targets, a chart, the figures in the documents, and the comparison."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
CHART = ROOT / "docs" / "benchmark.svg"
LOSS = 0.2
"""What a run may be worse than the committed one, as a ratio to a peer in the same run."""

Measures = Mapping[str, Sequence[float]]
NAMES = {
    "ready_bytes": "ready bytes, no codec (the limit)",
    "ours": "this project",
    "waiter": "this project: waiter --orders FILE",
    "confluent_serdes": "Confluent's serdes",
    "confluent_fastavro": "confluent-kafka, fastavro",
    "aiokafka_fastavro": "aiokafka, fastavro",
    "faststream_confluent": "FastStream (Confluent), fastavro",
    "quix_streams": "Quix Streams",
    "consume_older": "this project: as the cook, silent",
    "cook": "this project: as the cook, to /dev/null",
}
CHARTED = (("publish", "Publish"), ("consume", "Consume and decode"))
CHECKED = {"ours", "waiter", "consume_older", "cook"}


# What, the measure, what it stands against (or nothing), and the limit of the ratio (with + of the difference).
TARGETS = """
publish from memory, against SerializingProducer  | publish/ours | publish/confluent_serdes | >= 3.7
the same, against ready bytes                     | publish/ours | publish/ready_bytes | >= 0.6
waiter --orders, against SerializingProducer      | publish/waiter | publish/confluent_serdes | >= 3.3
consume, decoded, against DeserializingConsumer   | consume/ours | consume/confluent_serdes | >= 12
the same, against aiokafka's getmany with fastavro | consume/ours | consume/aiokafka_fastavro | >= 2
manager and ledger, against DeserializingConsumer | ledger/own | consume/confluent_serdes | >= 3
latency at 100/s, median, against produce and poll | latency-100/ours/median | latency-100/ready_bytes/median | <= 1.1
the same, 99th percentile                         | latency-100/ours/p99 | latency-100/ready_bytes/p99 | <= 1.5
latency at half of the most, median               | latency-half/ours/median | latency-half/ready_bytes/median | <= 1.1
the same, 99th percentile                         | latency-half/ours/p99 | latency-half/ready_bytes/p99 | <= 1.5
one order, wall time, against a script            | one/waiter/wall | one/confluent_serdes/wall | <= 1
waiter's memory, 10 million orders to 10,000      | sizes/10000000/waiter/mb | sizes/10000/waiter/mb | <= 1.2
the same in MB                                    | sizes/10000000/waiter/mb | | <= 120
manager's memory, 10 million orders to 10,000     | sizes/10000000/manager/mb | sizes/10000/manager/mb | <= 1.2
the same in MB                                    | sizes/10000000/manager/mb | | <= 120
waiter's time an order, 10 million to 100,000     | sizes/10000000/waiter/each | sizes/100000/waiter/each | <= 1.1
manager's time an order, 10 million to 100,000    | sizes/10000000/manager/each | sizes/100000/manager/each | <= 1.1
start of a manager, 10 million rows over ten, in s | sizes/10000000/manager/start | sizes/10/manager/start | <= +1
"""
# What `make bench-quick` compares: a measure, the peer's, whether more is better. Latency is too restless for it.
GUARDED = (
    ("publish/ours", "publish/confluent_serdes", True),
    ("publish/waiter", "publish/confluent_serdes", True),
    ("consume/ours", "consume/confluent_serdes", True),
    ("consume/cook", "consume/confluent_serdes", True),
    ("ledger/own", "consume/confluent_serdes", True),
    ("one/waiter/wall", "one/confluent_serdes/wall", False),
)


def medians_of(measures: Measures) -> dict[str, float]:
    """Give each measure's median, and the seconds an order of each size; for the waiter less what ten orders take."""
    medians = {name: statistics.median(values) for name, values in measures.items() if values}
    ten = medians.get("sizes/10/waiter/seconds", 0.0)
    for name, value in list(medians.items()):
        if (found := re.fullmatch(r"sizes/(\d+)/waiter/seconds", name)) and found[1] != "10":
            medians[f"sizes/{found[1]}/waiter/each"] = (value - ten) / int(found[1])
        elif found := re.fullmatch(r"(sizes/\d+/manager)/rate", name):
            medians[f"{found[1]}/each"] = 1 / value
    return medians


def targets(measures: Measures) -> str:
    """Give a line for each target: met (yes or no, - where it was not measured), what, the limit, and what it is."""
    medians = medians_of(measures)
    lines = []
    for target in TARGETS.strip().splitlines():
        what, measure, against, limit = (part.strip() for part in target.split("|"))
        met, shown = "-", ""
        if measure in medians and (not against or against in medians):
            value, base = medians[measure], medians.get(against, 1.0)
            value = value - base if "+" in limit else value / base
            sign, number = limit.split()
            met = "yes" if (value >= float(number) if sign == ">=" else value <= float(number)) else "no"
            shown = f"{value:.2f}"
        lines.append(f"{met:<4} {what:<50} {limit:>8} {shown:>9}".rstrip())
    return "\n".join(lines)


def compare(measures: Measures, committed: Measures) -> list[str]:
    """Give a sentence for each ratio to a peer that has become worse than the committed one by more than LOSS."""
    now, then = medians_of(measures), medians_of(committed)
    lost = []
    for name, peer, more_is_better in GUARDED:
        if {name, peer} <= now.keys() & then.keys():
            ratio, before = now[name] / now[peer], then[name] / then[peer]
            change = ratio / before if more_is_better else before / ratio
            if change < 1 - LOSS:
                lost.append(f"{name} is {ratio:.2f} x {peer}, it was {before:.2f} x: a loss of {1 - change:.0%}")
    return lost


def peers_table(measures: Measures) -> str:
    """Give the throughput of every peer, in Markdown, the fastest first; and what of its own CPU an order took."""
    medians, blocks = medians_of(measures), []
    for case, title in CHARTED:
        lines = [
            f"| {title} | orders/s, median | lowest to highest | CPU an order | limits checked |",
            "|---|--:|--:|--:|---|",
        ]
        for row in _rows(measures, case):
            cpu = medians.get(f"cpu-{case}/{row.peer}")
            shown = "" if cpu is None else f"{cpu:.2f} µs"
            spread = f"{min(row.values):,.0f} to {max(row.values):,.0f}"
            checked = "yes" if row.peer in CHECKED else "no"
            lines.append(f"| {row.name} | {row.median:,.0f} | {spread} | {shown} | {checked} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def scaling_table(measures: Measures) -> str:
    """Give the throughput by partitions and cooks, in Markdown: the median, and the lowest and highest below it."""
    lines = ["| partitions | waiter, orders/s | one cook | two cooks | four cooks |", "|--:|--:|--:|--:|--:|"]
    for partitions in (1, 2, 4):
        keys = [f"scaling/{partitions}/{what}" for what in ("waiter", "cooks-1", "cooks-2", "cooks-4")]
        lines.append(f"| {partitions} | {' | '.join(_with_spread(measures.get(key, ())) for key in keys)} |")
    return "\n".join(lines)


def sizes_table(measures: Measures) -> str:
    """Give what the number of orders changes, in Markdown."""
    medians = medians_of(measures)
    lines = [
        "| orders | waiter, µs an order | its MB | manager, µs an order | its MB | its start on so many rows |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    units = {"waiter/each": 1e6, "waiter/mb": 1.0, "manager/each": 1e6, "manager/mb": 1.0, "manager/start": 1.0}
    for size in (10, 10_000, 100_000, 1_000_000, 10_000_000):
        found = [medians.get(f"sizes/{size}/{what}", math.nan) * unit for what, unit in units.items()]
        shown = ("" if math.isnan(value) else form.format(value) for value, form in zip(found, FORMS, strict=True))
        lines.append(f"| {size:,} | {' | '.join(shown)} |")
    return "\n".join(lines)


FORMS = ("{:.2f}", "{:.0f}", "{:.2f}", "{:.0f}", "{:.2f} s")


def _with_spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):,.0f}<br>{min(values):,.0f} to {max(values):,.0f}"


def all_table(measures: Measures) -> str:
    """Give every measure as a line of text: median, lowest, highest, how often."""
    return "\n".join(
        f"{name:<42} {statistics.median(values):>16,.3f} {min(values):>16,.3f} {max(values):>16,.3f} {len(values):>4}"
        for name, values in sorted(measures.items())
    )


def about(result: Mapping[str, Any]) -> str:
    """Say on what machine and with which versions a result was measured."""
    machine, versions = result["machine"], result["versions"]
    return (
        f"{result['date']}, {machine['cores']} cores of {machine['processor']}, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}; {machine['broker']}; "
        f"{result['orders']:,} orders, {result['rounds']} rounds, medians; "
        + ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    )


def chart(result: Mapping[str, Any]) -> str:
    """Draw the throughput of every peer as bars, in an SVG that follows the reader's light or dark theme."""
    drawn: list[str] = []
    y = 24
    for case, title in CHARTED:
        rows = _rows(result["measures"], case)
        most = max((row.median for row in rows), default=1.0)
        drawn.append(f'<text class="title" x="0" y="{y}">{title}, orders/s</text>')
        for row in rows:
            y += 24
            kind = "ours" if row.peer in CHECKED else "limit" if row.peer == "ready_bytes" else "peer"
            width = round(max(1, 340 * row.median / most))
            drawn.append(
                f'<text x="270" y="{y}" text-anchor="end">{escape(row.name)}</text>'
                f'<rect class="{kind}" x="280" y="{y - 12}" width="{width}" height="16" rx="2"/>'
                f'<text x="{286 + width}" y="{y}">{row.median:,.0f}</text>'
            )
        y += 44
    for line in textwrap.wrap(about(result), 110):
        drawn.append(f'<text class="about" x="0" y="{y}">{escape(line)}</text>')
        y += 15
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {y}" role="img" aria-label="{escape(TITLE)}">\n'
        f"<title>{escape(TITLE)}</title>\n<style>{STYLE}</style>\n" + "\n".join(drawn) + "\n</svg>\n"
    )


TITLE = "Orders a second that this project and its peers publish, and consume and decode"
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.about{font-size:11px;fill:#59636e}"
    ".ours{fill:#1a7f37}.peer{fill:#8c959f}.limit{fill:#d0d7de}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.about{fill:#9198a1}.ours{fill:#3fb950}.peer{fill:#656c76}"
    ".limit{fill:#3d444d}}"
)


def fill(document: Path, block: str, text: str) -> None:
    """Put a text between a document's marks of that name; raises ValueError when they are not there."""
    begin, end = f"<!-- {block}: written by make bench -->", f"<!-- {block} ends -->"
    content = document.read_text("utf-8")
    if begin not in content or end not in content:
        raise ValueError(f"{document} has no marks for {block}")
    head, rest = content.split(begin, 1)
    document.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}", "utf-8")


def publish_documents(result: Mapping[str, Any]) -> None:
    """Write the chart and the figures in the documents."""
    CHART.write_text(chart(result), "utf-8")
    fill(ROOT / "docs" / "scaling.md", "peers", f"{peers_table(result['measures'])}\n\n{about(result)}.")
    fill(ROOT / "docs" / "scaling.md", "targets", f"```text\n{targets(result['measures'])}\n```")
    fill(ROOT / "docs" / "scaling.md", "sizes", f"{sizes_table(result['measures'])}\n\n{about(result)}.")
    fill(ROOT / "docs" / "scaling.md", "scaling", f"{scaling_table(result['measures'])}\n\n{about(result)}.")


_FOREIGN = "KAFKA_BOOTSTRAP_SERVERS" in os.environ


def latest() -> dict[str, Any] | None:
    """Give the newest committed result."""
    files = sorted(RESULTS.glob("*.json"))
    found: dict[str, Any] | None = json.loads(files[-1].read_text("utf-8")) if files else None
    return found


def machine() -> dict[str, Any]:
    """Describe this machine, without its name."""
    cpus = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpus.read_text("utf-8")) if cpus.exists() else None
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "cores": os.cpu_count(),
        "processor": model[1] if model else platform.machine(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": release.get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        "broker": "the environment's broker" if _FOREIGN else "broker on the same machine",
    }


def versions(peers: Sequence[str]) -> dict[str, str]:
    """Give the versions of what is compared, from this environment and the peers' locks."""
    pom = (ROOT / "stack" / "pom.xml").read_text("utf-8")
    kafka = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)<", pom)
    found = {"Kafka": kafka[1]} if kafka and not _FOREIGN else {}
    found |= {name: version(name) for name in ("confluent-kafka", "fastavro", "msgspec")}
    for lock in (Path(__file__).parent / "peers" / f"{peer}.txt" for peer in peers if peer != "ours"):
        pins = dict(re.findall(r"^([\w-]+)(?:\[[^]]*\])?==(\S+)", lock.read_text("utf-8"), re.MULTILINE))
        own = pins.keys() & {"aiokafka", "faststream", "quixstreams"}
        client = pins.get("confluent-kafka", found["confluent-kafka"])
        other = "" if client == found["confluent-kafka"] else f" (with confluent-kafka {client})"
        found |= {name: f"{pins[name]}{other}" for name in own}
    return found


@dataclass(frozen=True)
class _Row:
    """One peer's throughput in a case."""

    peer: str
    values: Sequence[float]

    @property
    def name(self) -> str:
        return NAMES.get(self.peer, self.peer)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def _rows(measures: Measures, case: str) -> list[_Row]:
    """Give a case's peers, the fastest first."""
    found = [name.partition("/") for name in measures]
    rows = [_Row(peer, measures[f"{case}/{peer}"]) for name, _, peer in found if name == case]
    return sorted(rows, key=lambda row: -row.median)
