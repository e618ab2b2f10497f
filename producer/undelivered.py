"""Keeps what was not acknowledged in a file that can be sent again, identities included."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import Generic

import msgspec

from contract.errors import RecordFileError, SettingError, StorageUnavailable
from contract.records import R
from runtime.data_dir import check_data_dir, open_data_dir


def check_place(directory: Path) -> None:
    """Raise SettingError when nothing could be kept in a directory, which is not made, nor is anything in it.

    So it costs microseconds, and what shows only when something is written, such as a full disk, does not show.
    """
    place = directory
    while not os.path.lexists(place):
        place = place.parent
    if not os.path.isdir(place):  # noqa: PTH112 - Path raises what it may not see, as behind a link
        trouble = f"{place} is no directory"
    elif not os.access(place, os.W_OK | os.X_OK):
        trouble = f"{place} cannot be written"
    else:
        if place == directory:
            check_data_dir(directory)
        return
    raise SettingError(
        f"DATA_DIR {directory} could not keep what is not acknowledged, as {trouble}; nothing was sent: set DATA_DIR "
        "to a directory that can be written"
    )


def unwritable(path: Path, error: OSError | SettingError) -> StorageUnavailable:
    """Return what is raised when a file of DATA_DIR cannot be written, or DATA_DIR has come to be refused."""
    what = str(error) if isinstance(error, SettingError) else f"{path} cannot be written: {error.strerror}"
    return StorageUnavailable(what)


class Undelivered(AbstractContextManager["Undelivered[R]"], Generic[R]):
    """A JSON Lines file in a directory; both are made when there is something to keep.

    Whatever writes raises StorageUnavailable when that cannot be done, and then `count` is 0.
    """

    def __init__(self, directory: Path) -> None:
        self.count = 0
        self.reason = ""
        """Of the last one that was added."""
        self.sha256 = ""
        """Of the file, when all of it is written."""
        self._names = (
            directory / f"undelivered-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}{again}.jsonl"
            # The first process of every container has the same number.
            for again in itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        )
        self.path = next(self._names)
        self._file: BufferedRandom | None = None

    def add(self, record: R, reason: str) -> None:
        """Keep a record."""
        try:
            file = self._file = self._file or self._open()
            file.write(msgspec.json.encode(record) + b"\n")
        except (OSError, SettingError) as error:
            raise self._unwritable(error) from None
        self.count += 1
        self.reason = reason

    def add_all(self, records: Iterable[R], reason: str) -> None:
        """Keep records, or none of them when reading them raises RecordFileError, which is passed on."""
        count, size = self.count, self._file.tell() if self._file else 0
        try:
            for record in records:
                self.add(record, reason)
        except RecordFileError:
            try:
                if self._file:
                    self._file.truncate(self._file.seek(size))
            except OSError as error:
                raise self._unwritable(error) from None
            self.count = count
            raise

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            return
        try:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.seek(0)
                self.sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
                if not self._file.tell():
                    self.path.unlink()
        except OSError as error:
            raise self._unwritable(error) from None

    def _open(self) -> BufferedRandom:
        open_data_dir(self.path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            with suppress(FileExistsError):  # or a link that somebody has put there
                return os.fdopen(os.open(self.path, flags, 0o600), "w+b")
            self.path = next(self._names)

    def _unwritable(self, error: OSError | SettingError) -> StorageUnavailable:
        self.count = 0
        return unwritable(self.path, error)
