"""Publishes a file of records: all of it checked first, every record named, nothing that was not acknowledged lost."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from threading import Event, RLock
from typing import IO, Generic

import msgspec
from msgspec.structs import force_setattr

from contract.errors import RecordFileError, Refused, StorageUnavailable
from contract.records import R, build
from contract.subjects import Subject
from producer.publishing import RecordProducer, print_delivery
from producer.record_files import RecordFile, Summary
from runtime.command import FAILED, OK
from runtime.data_dir import check_data_dir, open_data_dir, open_file


def add_file_arguments(parser: ArgumentParser) -> None:
    """Give a command the flags that `publish_file` reads."""
    parser.add_argument("--skip-invalid", action="store_true", help="send a file's good lines although it has bad ones")
    parser.add_argument("--batch", metavar="NAME", help="send a file's lines once more, as others than before")
    parser.add_argument("--verbose", action="store_true", help="print a line for each record of a file")


def publish_file(
    flags: Namespace,
    file: RecordFile[R],
    subject: Subject,
    connect: Callable[[], RecordProducer[R]],
    data_dir: Path,
    stop: Callable[[], Event],
) -> int:
    """Publish a file as the flags of `add_file_arguments` say, and give the exit code.

    Connects only once the file has been checked; only then `stop` is asked for the event that ends it early. What was
    not acknowledged is kept in `data_dir`.
    """
    from tqdm import tqdm  # noqa: PLC0415 - a lone record need not wait for the import

    tqdm.set_lock(RLock())  # its own is one between processes, for which Python 3.14 starts another process
    started = time.perf_counter()
    summary = file.check()
    if summary.invalid_count:
        _report_invalid(summary, flags.skip_invalid)
        if not flags.skip_invalid:
            return FAILED
    batch = flags.batch or summary.digest[:24]
    if os.access(data_dir, os.F_OK):  # before anything is sent: it is to keep what fails
        check_data_dir(data_dir)
    producer = connect()
    undelivered: _Undelivered[R] = _Undelivered(data_dir)
    on_delivery = print_delivery if flags.verbose else None
    try:
        # Neither enabled nor disabled: tqdm asks whether standard error is a terminal.
        with undelivered, tqdm(total=summary.valid, unit=f" {subject.stem}s", leave=False, disable=None) as bar:
            named = _named(file, subject.identity, batch, bar.update)
            count = producer.publish_all(named, undelivered.add, on_delivery, stop())
        seconds = time.perf_counter() - started
        rate = f"{count / seconds:.0f} {subject.stem}s/s"
        print(f"published {count} {subject.stem}s in {seconds:.2f} s ({rate})", file=sys.stderr)
    finally:
        if undelivered.count:
            print(
                f"{undelivered.count} {subject.stem}s were not acknowledged ({undelivered.reason}) and are kept in "
                f"{undelivered.path}; when the cause is mended, send that file as this one",
                file=sys.stderr,
            )
    return FAILED if undelivered.count or summary.invalid_count else OK


def _report_invalid(summary: Summary, skip_invalid: bool) -> None:  # noqa: FBT001
    for sentence in summary.invalid:
        print(sentence, file=sys.stderr)
    hidden = summary.invalid_count - len(summary.invalid)
    also = f" ({hidden} not shown)" if hidden else ""
    outcome = (
        "the rest is sent; send these, mended, in a file of their own"
        if skip_invalid
        else "nothing was sent; mend them, or send the rest with --skip-invalid"
    )
    print(f"{summary.invalid_count} bad lines{also}; {outcome}", file=sys.stderr)


def _named(
    file: RecordFile[R], identity: str | None, batch: str, tell: Callable[[int], object]
) -> Iterator[Sequence[R]]:
    """Give a file's records with an identity each, the same whenever the file is sent again; `tell` how many come."""
    for numbers, records in file.chunks():
        if identity is not None and records and hasattr(records[0], identity):
            _check_batch(batch, identity, records[0], numbers[-1])
            given = [*map(attrgetter(identity), records)]
            for number, record, present in zip(numbers, records, given, strict=True) if not all(given) else ():
                if not present:
                    # Read a moment ago and nobody else's yet: filling it in changes nothing under anyone.
                    force_setattr(record, identity, f"{batch}:{str(number).zfill(10)}")
        tell(len(records))
        yield records


def _check_batch(batch: str, identity: str, record: R, number: int) -> None:
    values = msgspec.structs.asdict(record) | {identity: f"{batch}:{number:010}"}
    try:
        build(type(record), values)
    except Refused as error:
        raise RecordFileError(f"--batch {batch} is no name for these records: {error}") from None


@dataclass
class _Undelivered(AbstractContextManager["_Undelivered[R]"], Generic[R]):
    """Keeps what was not acknowledged in a file that can be sent again, identities included."""

    directory: Path
    count: int = 0
    reason: str = ""
    path: Path = field(init=False)
    _file: IO[bytes] | None = None

    def __post_init__(self) -> None:
        self.path = self.directory / f"undelivered-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.jsonl"

    def add(self, record: R, reason: str) -> None:
        try:
            if self._file is None:
                open_data_dir(self.directory)
                self._file = os.fdopen(open_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")
            self._file.write(msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise self._unwritable(error) from None
        self.count += 1
        self.reason = reason

    def __exit__(self, *_: object) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> StorageUnavailable:
        return StorageUnavailable(
            f"{self.path} cannot be written: {error.strerror}; send the first file again, what is recorded counts once"
        )
