"""Measures this project against its peers, on one machine, in one run: `make bench`, or some cases by hand.

python benchmarks/run.py --cases publish,consume --rounds 5 --orders 200000
"""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cases import CASES, OURS, READY, SERDES, Bench
from benchmarks.kitchen import ENVIRONMENTS, BenchmarkError, open_kitchen
from stack.local import StackError

PEERS = (SERDES, "confluent_fastavro", "aiokafka_fastavro", "faststream_confluent", "quix_streams", READY, OURS)
# Not much fewer orders than those of a whole run: what a start costs is to be as small a part of the time.
QUICK = {"cases": "publish,consume,ledger,one", "peers": f"{SERDES},{OURS}", "rounds": 3, "orders": 300_000}


def main() -> int:
    """Measure, show, and keep or compare; exit 1 when the comparison finds a loss, 2 when it could not run."""
    flags = _flags()
    for number in (signal.SIGINT, signal.SIGTERM):  # in a shell's background, the first would be ignored
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory, open_kitchen(Path(directory)) as kitchen:
            peers = flags.peers.split(",")
            bench = Bench(kitchen, peers, flags.orders, flags.rounds, [int(size) for size in flags.sizes.split(",")])
            for case in flags.cases.split(","):
                print(f"{case}: {CASES[case].__doc__}", flush=True)
                CASES[case](bench)
    except (BenchmarkError, StackError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 2
    print(f"\n{'':<42} {'median':>16} {'lowest':>16} {'highest':>16}    n\n{report.all_table(bench.measures)}\n")
    print(report.targets(bench.measures))
    if flags.against_committed:
        return _compare(bench)
    if flags.save:
        _save(bench)
    return 0


def _compare(bench: Bench) -> int:
    committed = report.latest()
    if committed is None:
        print("nothing to compare with: no results are committed; run: make bench", file=sys.stderr)
        return 2
    lost = report.compare(bench.measures, committed["measures"])
    for sentence in lost:
        print(f"slower than {committed['date']}: {sentence}", file=sys.stderr)
    print("" if lost else f"as fast as {committed['date']}, within {report.LOSS:.0%}")
    return 1 if lost else 0


def _save(bench: Bench) -> None:
    date = time.strftime("%Y-%m-%d")
    path = report.RESULTS / f"{date}.json"
    run: dict[str, Any] = {
        "date": date,
        "machine": report.machine(),
        "versions": report.versions(bench.peers),
        "orders": bench.orders,
        "rounds": bench.rounds,
    }
    measures = {name: [float(f"{value:.6g}") for value in values] for name, values in bench.measures.items()}
    # Some cases by hand renew theirs in such a run of the same day: whatever is compared is compared within a case.
    before = report.latest() or {}
    if all(before.get(name) == value for name, value in run.items()):
        measures = before["measures"] | measures
    result = {**run, "measures": measures}
    path.parent.mkdir(exist_ok=True)
    text = re.sub(r"\[([^]]*)\]", lambda values: f"[{' '.join(values[1].split())}]", json.dumps(result, indent=1))
    path.write_text(text + "\n", "utf-8")
    report.publish_documents(result)
    print(f"\nkept in {path.relative_to(report.ROOT)}, with the chart and the tables in docs/scaling.md")


def _flags() -> Namespace:
    made = [peer for peer in PEERS if peer == OURS or (ENVIRONMENTS / peer).exists()]
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES), help="which, by comma (%(default)s)")
    parser.add_argument("--peers", default=",".join(made), help="which, by comma (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (%(default)s)")
    parser.add_argument("--orders", type=int, default=500_000, help="in each round, after the warm-up (%(default)s)")
    parser.add_argument("--sizes", default="10,10000,100000,1000000,10000000", help="of the case sizes (%(default)s)")
    parser.add_argument("--save", action="store_true", help="keep the results, the chart and the tables")
    parser.add_argument("--quick", action="store_true", help="a short run, compared with the committed results")
    flags = parser.parse_args()
    if flags.quick:
        flags = parser.parse_args([f"--{name}={value}" for name, value in QUICK.items()])
    flags.against_committed = "--quick" in sys.argv
    if unknown := set(flags.cases.split(",")) - CASES.keys():
        parser.error(f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return flags


if __name__ == "__main__":
    sys.exit(main())
