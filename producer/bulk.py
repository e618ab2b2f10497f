"""Publishes a file of records: all of it checked first, every record named, nothing that was not acknowledged lost."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from threading import Event, RLock
from typing import Generic

import msgspec
from msgspec.structs import force_setattr

from contract.errors import NotDelivered, RecordFileError, StorageUnavailable
from contract.records import R, explain
from contract.subjects import Subject
from producer.publishing import RecordProducer, print_delivery
from producer.record_files import Beginning, RecordFile, Summary
from producer.sending import MOST_NOTES, Notes, Sending
from producer.undelivered import Undelivered
from runtime.command import FAILED, OK


def add_file_arguments(parser: ArgumentParser) -> None:
    """Give a command the flags that `publish_file` reads."""
    parser.add_argument("--skip-invalid", action="store_true", help="send a file's good lines although it has bad ones")
    parser.add_argument(
        "--batch",
        metavar="NAME",
        help="send a file once more, its lines as others than before, but for those with an identity of their own",
    )
    parser.add_argument("--verbose", action="store_true", help="print a line for each record of a file")


def publish_file(
    flags: Namespace,
    file: RecordFile[R],
    subject: Subject,
    connect: Callable[[], RecordProducer[R]],
    data_dir: Path,
    stop: Callable[[], Event],
    command: Callable[[Path], str],
) -> int:
    """Publish a file as the flags of `add_file_arguments` say, and return the exit code.

    Connects only once the file has been checked; only then `stop` is asked for the event that ends it early. What was
    not acknowledged is kept in `data_dir`, and until all of it was, a note of the identities that its lines have.
    `command` returns what to type to send a file.
    """
    from tqdm import tqdm  # noqa: PLC0415 - a lone record need not wait for the import

    tqdm.set_lock(RLock())  # its own is one between processes, for which Python 3.14 starts another process
    started = time.perf_counter()
    notes = Notes(data_dir, flags.batch)
    summary = file.check([*notes.sizes, file.size])
    if file.is_changed or file.size not in summary.beginnings:
        raise RecordFileError(
            f"{file.path} was changed while it was being checked; nothing was sent: give it when nobody writes to it"
        )
    if summary.invalid_count:
        _report_invalid(summary, flags.skip_invalid)
        if not flags.skip_invalid:
            return FAILED
    sending = notes.find(file.path, file.size, summary.beginnings)
    undelivered: Undelivered[R] = Undelivered(data_dir)
    lines = _Lines(file, sending, _identity_of(file, subject, sending), undelivered)
    if sending.known:
        print(lines.known(), file=sys.stderr)
    producer = connect()
    on_delivery = print_delivery if flags.verbose else None
    event = stop()
    _begin(sending)
    try:
        # Neither enabled nor disabled: tqdm asks whether standard error is a terminal.
        with undelivered, tqdm(total=summary.valid, unit=f" {subject.stem}s", leave=False, disable=None) as bar:
            count = producer.publish_all(lines.chunks(bar.update), undelivered.add, on_delivery, event)
        seconds = time.perf_counter() - started
        rate = f"{count / seconds:.0f} {subject.stem}s/s"
        print(f"published {_counted(count, subject.stem)} in {seconds:.2f} s ({rate})", file=sys.stderr)
        lost = summary.valid - count - undelivered.count
        is_changed = bool(lines.trouble) or file.is_changed
        if is_changed or undelivered.count:
            beginning = lines.now() if is_changed else None
            kept = [undelivered.sha256] if undelivered.count and not lost else []
            sending.remember(kept, grown=beginning is not None)
    except (StorageUnavailable, NotDelivered) as error:
        raise type(error)(f"{error}; {lines.again()}") from None
    finally:
        if undelivered.count:
            was, is_ = ("was", "is") if undelivered.count == 1 else ("were", "are")
            print(
                f"{_counted(undelivered.count, subject.stem)} {was} not acknowledged ({undelivered.reason}) and {is_} "
                f"kept in {undelivered.path}; when the cause is mended, run: {command(undelivered.path)}",
                file=sys.stderr,
            )
    if is_changed:
        print(lines.changed(lost, beginning), file=sys.stderr)
    if is_changed or undelivered.count:
        return FAILED
    sending.forget()
    return FAILED if summary.invalid_count else OK


def _begin(sending: Sending) -> None:
    """Write the note, and say of which files the notes had to go for it."""
    try:
        sending.remember()
    except StorageUnavailable as error:
        raise StorageUnavailable(
            f"{error}; nothing was sent: set DATA_DIR to a directory that can be written"
        ) from None
    for note in sending.surplus.values():
        print(
            f"{sending.directory} had notes of {MOST_NOTES} files: the oldest is gone, and if lines are added to "
            f"{os.fsdecode(note.path)}, or were while it was sent, all of its lines are others when it is given again",
            file=sys.stderr,
        )


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
    print(f"{_counted(summary.invalid_count, 'bad line')}{also}; {outcome}", file=sys.stderr)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _identity_of(file: RecordFile[R], subject: Subject, sending: Sending) -> str | None:
    """Return the field of the identity, None where these records have none.

    Raises RecordFileError when lines have none of their own, and those that they would be given do not fit the field or
    are in doubt.
    """
    fields = {field.name: field.type for field in msgspec.structs.fields(file.record)}
    identity = subject.identity
    if identity is None or identity not in fields:
        return None
    first = {identity: sending.identities([1])[0]}
    trouble = ""
    try:
        msgspec.convert(first[identity], fields[identity])
    except msgspec.ValidationError as error:
        trouble = (
            f"{file.path} has lines without {identity}, and those that they would be given do not fit: "
            f"{explain(error, first)}; nothing was sent: give each line one of its own"
        )
    if sending.elsewhere:
        path = os.fsdecode(sending.elsewhere.path)
        trouble = trouble or (
            f"{file.path} begins with all that {path} had, which was not sent whole; nothing was sent: if it is that "
            f"file, give it as {path}; if all of its lines are others, add --batch NAME"
        )
    if trouble and _lacks(file, identity, sys.maxsize):
        raise RecordFileError(trouble)
    return identity


def _lacks(file: RecordFile[R], identity: str, last: int) -> bool:
    """Return whether one of the lines up to the last has no identity of its own, after reading up to that one."""
    return any(not getattr(record, identity) for _, records in file.between(0, last) for record in records)


@dataclass
class _Lines(Generic[R]):
    """The records of a file, each with its identity, and what is said when the file is not what was checked."""

    file: RecordFile[R]
    sending: Sending
    identity: str | None
    undelivered: Undelivered[R]
    trouble: str = ""
    """Why not all that was checked could be sent."""
    last: int = 0
    """The number of the last line that was sent."""

    def chunks(self, tell: Callable[[int], object]) -> Iterator[Sequence[R]]:
        """Return the records, and `tell` how many come; when the file is changed, keep the rest of what was checked."""
        try:
            for numbers, records in self.file.chunks():
                if records:
                    tell(len(records))
                    yield self._identified(numbers, records)
                    self.last = numbers[-1]
        except RecordFileError as error:
            self.trouble = str(error)
            try:
                self.undelivered.add_all(self._rest(), self.trouble)
            except RecordFileError as why:
                self.trouble = str(why)

    def known(self) -> str:
        """Say that some of the lines have been sent before."""
        known = self.sending.known
        if self.identity is None:
            kept = "and have no identity: those that have arrived are recorded twice"
        elif _lacks(self.file, self.identity, known):
            kept = "and keep their identities; to send them as others, add --batch NAME"
        else:
            kept = "and have identities of their own: each is recorded once"
        return f"the first {known} lines of {self.file.path} were being sent before, {kept}"

    def again(self) -> str:
        """Say what to do when neither acknowledgements nor a kept file tell what was sent."""
        if self.identity is None:
            return (
                f"some of {self.file.path} was sent, and is recorded twice if it is given again: it has no identities"
            )
        restored = "" if self.now() else ", restored as it was"
        return f"give {self.file.path} again{restored}: what was sent of it is recorded once"

    def now(self) -> Beginning | None:
        """Return what was checked as it is in the file of that name now, which may be another; None if it is not."""
        try:
            with closing(RecordFile(self.file.path, self.file.record)) as file:
                return self._as_checked(file)
        except RecordFileError:
            return None

    def changed(self, lost: int, beginning: Beginning | None) -> str:
        """Say what to do with a file that was changed, which is `now` as given.

        Of what was checked, `lost` records are neither sent nor kept.
        """
        path, is_kept = self.file.path, self.undelivered.count > 0
        if beginning is None:
            some = f", and {_counted(lost, 'record')} that were not sent cannot be kept" if lost else ""
            if self.identity is None:
                todo = f"its lines up to {self.last} were sent, and are recorded twice if they are sent again"
            elif lost:
                todo = "restored as it was and given again, none is recorded twice"
            else:
                todo = "send what is kept, and not this file" if is_kept else "all of that was sent"
            others = "; as it is now, all of its lines are others" if self.identity else ""
            return f"{path} no longer holds what was checked{some}: {todo}{others}"
        if self.identity is None:
            todo = (
                f"its first {beginning.lines} lines have no identities, send what is behind them in a file of its own"
            )
        else:
            todo = (
                f"give {path} again when nobody writes to it any more, its first {beginning.lines} lines keep their "
                "identities as long as they stay as they are"
            )
            todo += "; then what is kept need not be sent, but may be" if is_kept else ""
        return f"{path} was changed while it was being sent: {todo}"

    def _identified(self, numbers: Sequence[int], records: list[R]) -> list[R]:
        """Return records of which those that had no identity have one: the same whenever the file is sent again."""
        if self.identity is None:
            return records
        given = [*map(attrgetter(self.identity), records)]
        if not all(given):
            for record, present, identity in zip(records, given, self.sending.identities(numbers), strict=True):
                if not present:
                    # Read a moment ago and nobody else's yet: filling it in changes nothing under anyone.
                    force_setattr(record, self.identity, identity)
        return records

    def _rest(self) -> Iterator[R]:
        """Return what was checked and not sent; raises RecordFileError when the file no longer holds that."""
        beginning = self._as_checked(self.file)
        for numbers, records in self.file.between(self.last, beginning.lines):
            yield from self._identified(numbers, records)
        if self._as_checked(self.file) != beginning:
            raise RecordFileError(f"{self.file.path} was changed while what is left of it was being kept")

    def _as_checked(self, file: RecordFile[R]) -> Beginning:
        """Return what was checked as it is in a file now; raises RecordFileError when it is something else."""
        note = self.sending.note
        found = file.beginnings([note.size]).get(note.size)
        if found is None or found.digest != note.sha256:
            raise RecordFileError(f"{file.path} no longer holds what was checked")
        return found
