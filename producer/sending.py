"""Identities of a file's lines, and the note that keeps them until the file has been sent whole.

An identity holds the digest of the whole file, so that two files that begin alike share none. A file to which lines are
added while it is sent has another digest then: only the note says which lines of it were sent, and under what identity.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from contract.errors import RecordFileError, StorageUnavailable
from producer.record_files import Beginning
from runtime.data_dir import check_data_dir, open_data_dir

_NAME = re.compile(r"sending-[0-9a-f]{24}\.json")


class Note(msgspec.Struct, frozen=True):
    """What is remembered of a file in `sending-PREFIX.json`, by the prefix of its lines' identities."""

    size: int
    """Of what was checked, in bytes."""
    sha256: str
    """Of these bytes."""
    before: Sequence[tuple[int, str]] = ()
    """Lines that were being sent before the file had grown: the last one's number, and their prefix."""
    whole: bool = False
    """It was sent whole, and unchanged: a file that goes on is another one."""


@dataclass(frozen=True)
class Sending:
    """A file that is to be sent: the prefix of the identity of each line, and the note of that."""

    note: Note
    prefix: str
    """Of the lines that are in no earlier note."""
    directory: Path
    known: int = 0
    """How many of its first lines were being sent before; they keep the identities that they had then."""
    superseded: Sequence[Path] = ()
    """Notes of what the file was before it had grown."""

    @property
    def path(self) -> Path:
        """Where the note is."""
        return self.directory / f"sending-{self.prefix}.json"

    def prefixes(self, numbers: Sequence[int]) -> Iterator[tuple[str, slice]]:
        """Return each prefix and the part of these ascending line numbers that it is for."""
        start = 0
        for last, prefix in (*self.note.before, (sys.maxsize, self.prefix)):
            end = bisect_right(numbers, last, start)
            if end > start:
                yield prefix, slice(start, end)
            start = end

    def remember(self) -> None:
        """Write the note to the disk, whole or not at all; raises StorageUnavailable when that cannot be done."""
        _write(self.path, self.note)

    def forget(self) -> None:
        """Remove the note of a file that was sent whole and unchanged, for another file may begin like it.

        If it had grown, its identities are more than its digest tells: they stay, for this very file.
        Raises StorageUnavailable when that cannot be done.
        """
        if self.note.before:
            _write(self.path, msgspec.structs.replace(self.note, whole=True))
        try:
            for path in self.superseded if self.note.before else (*self.superseded, self.path):
                path.unlink(missing_ok=True)
            _sync(self.directory)
        except OSError as error:
            raise StorageUnavailable(
                f"{self.path} cannot be removed: {error.strerror}; remove it, for that file was sent whole"
            ) from None


def identity_of(prefix: str, line: int) -> str:
    """Return the identity of a line of a file, 35 characters."""
    return f"{prefix}:{str(line).zfill(10)}"


class Notes:
    """The notes of a directory that are of one batch, None for files that are sent without one."""

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
        for path in paths:
            note = _read(path)
            if note and path.name == f"sending-{self._prefix(note.sha256)}.json":
                self._notes[path] = note

    @property
    def sizes(self) -> Iterable[int]:
        """How many bytes each of them is about."""
        return [note.size for note in self._notes.values()]

    def find(self, size: int, beginnings: Mapping[int, Beginning]) -> Sending:
        """Return how a file is to be sent, by what it begins with, which is asked for by its size and by `sizes`."""
        digest = beginnings[size].digest
        prefix = self._prefix(digest)
        fitting = {
            path: note
            for path, note in self._notes.items()
            if note.size in beginnings and beginnings[note.size].digest == note.sha256
            if note.size == size or not note.whole
        }
        if not fitting:
            return Sending(Note(size, digest), prefix, self._directory)
        last = max(fitting.values(), key=lambda note: note.size)
        lines = beginnings[last.size].lines
        before = last.before if last.size == size else (*last.before, (lines, self._prefix(last.sha256)))
        superseded = [path for path, note in fitting.items() if note.size < size]
        return Sending(Note(size, digest, before), prefix, self._directory, lines, superseded)

    def _prefix(self, digest: str) -> str:
        """Return what identities begin with: a file's digest, or with a batch the digest of that and the name."""
        if self._batch is None:
            return digest[:24]
        # The bytes of a command line that are no UTF-8 are surrogates in Python.
        name = self._batch.encode("utf-8", "surrogatepass")
        return hashlib.sha256(bytes.fromhex(digest) + b"\0" + name).hexdigest()[:24]


def _read(path: Path) -> Note | None:
    """Return a note, None when it has been removed meanwhile."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Note)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageUnavailable(
            f"{path} cannot be read, which says what was sent of a file: {error.strerror}; nothing was sent"
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
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be written: {error.strerror}") from None


def _sync(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
