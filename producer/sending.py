"""Identities of a file's lines, and the note that keeps them until the file has been sent whole.

An identity holds the digest of the whole file, so that two files that begin alike share none. A file to which lines are
added while it is sent has another digest then: only the note says which lines of it were sent, and under what identity.
Another file may begin with the same lines, so the note is of the file's path, and only until the file has been sent
whole, itself or by the file of what was not acknowledged. That of a file that had grown before stays, for the file that
was sent whole and no other: its digest alone would give its first lines other identities when it is sent again.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from contract.errors import RecordFileError, SettingError, StorageUnavailable
from producer.record_files import Beginning
from producer.undelivered import unwritable
from runtime.data_dir import check_data_dir, open_data_dir

_NAME = re.compile(r"sending-[0-9a-f]{24}\.json")
MOST_NOTES = 1_000


class Note(msgspec.Struct, frozen=True):
    """What is remembered of a file in `sending-PREFIX.json`, by the prefix of its lines' identities."""

    path: bytes
    """Of the file, absolute, links resolved."""
    size: int
    """Of what was checked, in bytes."""
    sha256: str
    """Of these bytes."""
    before: Sequence[tuple[int, str]] = ()
    """Lines that were being sent before the file had grown: the last one's number, and their prefix."""
    kept: Sequence[str] = ()
    """SHA-256 of each `undelivered-….jsonl` that has all that was not acknowledged: one of them sent, all of it is."""
    grown: bool = False
    """It was changed while it was being sent, and began with all of that afterwards."""
    whole: bool = False
    """It was sent whole, and unchanged: a file that goes on is another one."""

    @property
    def has_grown(self) -> bool:
        """Whether lines were added to it since it was checked, by what is known or what its path names now."""
        try:
            return self.grown or Path(os.fsdecode(self.path)).stat().st_size > self.size
        except OSError:
            return False


@dataclass(frozen=True)
class Sending:
    """A file that is to be sent: the prefix of the identity of each line, and the note of that."""

    note: Note
    prefix: str
    """Of the lines that are in no earlier note."""
    directory: Path
    notes: Mapping[Path, Note]
    """All that are in the directory, of whatever file and batch, the oldest first."""
    known: int = 0
    """How many of its first lines were being sent before; they keep the identities that they had then."""
    superseded: Sequence[Path] = ()
    """Notes of what the file was before it had grown."""
    elsewhere: Note | None = None
    """Of a file with another path that was not sent whole, and with all of which this one begins."""

    @property
    def path(self) -> Path:
        """Where the note is."""
        return self.directory / _name(self.prefix)

    @property
    def surplus(self) -> Mapping[Path, Note]:
        """The oldest notes, which are one too many with this one."""
        others = [path for path in self.notes if path not in {self.path, *self.superseded}]
        return {path: self.notes[path] for path in others[: -(MOST_NOTES - 1)]}

    def identities(self, numbers: Sequence[int]) -> list[str]:
        """Return the identities of lines by their ascending numbers, 35 characters each."""
        identities: list[str] = []
        start = 0
        for last, prefix in (*self.note.before, (sys.maxsize, self.prefix)):
            end = bisect_right(numbers, last, start)
            while start < end:  # those of as many digits at a time, which is faster than to fill each up
                digits = len(str(numbers[start]))
                alike = bisect_right(numbers, 10**digits - 1, start, end)
                filled = f"{prefix}:{'0' * (10 - digits)}"
                identities += [f"{filled}{number}" for number in numbers[start:alike]]
                start = alike
        return identities

    def remember(self, kept: Sequence[str] = (), *, grown: bool = False) -> None:
        """Write the note to the disk, whole or not at all, and remove those that it supersedes and those in surplus.

        Adds what is `kept` and `grown`, as the note has them. Raises StorageUnavailable when that cannot be done.
        """
        _write(self.path, msgspec.structs.replace(self.note, kept=[*self.note.kept, *kept], grown=grown))
        self._remove(*self.superseded, *self.surplus)

    def forget(self) -> None:
        """Remove the note of a file that was sent whole and unchanged, for another file may begin like it.

        If it had grown, its identities are more than its digest tells: they stay, for this very file. The same is done
        with the note of each file of which this one is what was not acknowledged, unless that has grown since. Raises
        StorageUnavailable when that cannot be done.
        """
        notes = {**self.notes}
        sent = {self.path: self.note}
        while sent:
            path, note = sent.popitem()
            notes.pop(path, None)
            if note.before:
                _write(path, msgspec.structs.replace(note, whole=True, kept=()))
            else:
                self._remove(path)
            sent |= {path: one for path, one in notes.items() if note.sha256 in one.kept and not one.has_grown}

    def _remove(self, *paths: Path) -> None:
        try:
            for path in paths:
                path.unlink(missing_ok=True)
            if paths:
                _sync(self.directory)
        except OSError as error:
            raise StorageUnavailable(
                f"{error.filename or self.directory} cannot be removed: {error.strerror}; remove it"
            ) from None


class Notes:
    """The notes of a directory, and the batch of a file that is to be sent, None for one that is sent without."""

    def __init__(self, directory: Path, batch: str | None) -> None:
        """Read them; raises StorageUnavailable when that cannot be done, RecordFileError when one is damaged."""
        self._directory = directory
        self._batch = batch
        self._notes: dict[Path, Note] = {}
        try:
            check_data_dir(directory)
            paths = [path for path in directory.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            paths = []
        except OSError as error:
            raise StorageUnavailable(
                f"{directory} cannot be read: {error.strerror}; nothing was sent: set DATA_DIR to another directory"
            ) from None
        for path in sorted(paths, key=_age):
            if note := _read(path):
                self._notes[path] = note

    @property
    def sizes(self) -> Iterable[int]:
        """How many bytes each of them is about."""
        return [note.size for note in self._notes.values()]

    def find(self, file: Path, size: int, beginnings: Mapping[int, Beginning]) -> Sending:
        """Return how a file is to be sent, by what it begins with, which is asked for by its size and by `sizes`.

        One that begins with all bytes of a note is the note's file if it has the same path, or no other bytes.
        """
        note = Note(os.fsencode(file.resolve()), size, beginnings[size].digest)
        sending = Sending(note, self._prefix(note.sha256), self._directory, self._notes)
        fitting = {
            path: one
            for path, one in self._notes.items()
            if one.size in beginnings and beginnings[one.size].digest == one.sha256
            if path.name == _name(self._prefix(one.sha256))  # else of another batch
            if one.size == size or not one.whole
        }
        if not fitting:
            return sending
        last = max(fitting.values(), key=lambda one: one.size)
        lines = beginnings[last.size].lines
        if last.size == size:
            note = msgspec.structs.replace(note, before=last.before, kept=last.kept)
        elif last.path == note.path:
            note = msgspec.structs.replace(note, before=[*last.before, (lines, self._prefix(last.sha256))])
        else:
            return replace(sending, elsewhere=last)
        superseded = [path for path, one in fitting.items() if one.size < size and one.path == note.path]
        return replace(sending, note=note, known=lines, superseded=superseded)

    def _prefix(self, digest: str) -> str:
        """Return what identities begin with: a file's digest, or with a batch the digest of that and the name."""
        if self._batch is None:
            return digest[:24]
        # The bytes of a command line that are no UTF-8 are surrogates in Python.
        name = self._batch.encode("utf-8", "surrogatepass")
        return hashlib.sha256(bytes.fromhex(digest) + b"\0" + name).hexdigest()[:24]


def _name(prefix: str) -> str:
    return f"sending-{prefix}.json"


def _age(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # it has been removed meanwhile
        return 0


def _read(path: Path) -> Note | None:
    """Return a note, None when it has been removed meanwhile."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Note)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageUnavailable(
            f"{path} cannot be read, which says what was sent of a file: {error.strerror}; nothing was sent: let this "
            "user read it"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise RecordFileError(
            f"{path} is damaged, which says what was sent of a file that was not sent whole; nothing was sent: restore "
            "it, or remove it if that file has been sent since"
        ) from None


def _write(path: Path, note: Note) -> None:
    try:
        open_data_dir(path.parent)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".sending-", delete=False) as file:
            try:
                file.write(msgspec.json.encode(note))
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _sync(path.parent)
    except (OSError, SettingError) as error:
        raise unwritable(path, error) from None


def _sync(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
