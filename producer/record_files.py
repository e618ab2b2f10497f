"""Files of records, JSON Lines or CSV by their ending, read twice: once to check every line, once to send them.

Memory is bounded by a block of the file, whatever its size.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os.path import samestat
from pathlib import Path
from typing import Generic, NamedTuple

import msgspec

from contract.errors import RecordFileError, Refused
from contract.records import R, build, shorten

BLOCK = 256 * 1024
LONGEST_LINE = 1024 * 1024
_SHOWN = 20
_CHUNK = 1_000
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Beginning(NamedTuple):
    """The first bytes of a file: their SHA-256, and how many lines they hold.

    A last one that lacks its end is counted if the file ends there, too, or goes on with a line's end: else it was cut.
    """

    digest: str
    lines: int


@dataclass
class Summary:
    """What the first reading found; `invalid` has a sentence for each of the first bad lines."""

    valid: int = 0
    invalid_count: int = 0
    invalid: list[str] = field(default_factory=list)
    beginnings: dict[int, Beginning] = field(default_factory=dict)
    """By the sizes that were asked for, in bytes."""


class RecordFile(Generic[R]):
    """A file of records of one version, as long as it was when it was opened: what is added later is not read."""

    def __init__(self, path: Path, record: type[R]) -> None:
        """Open the file; raises RecordFileError when it cannot be read or is neither .jsonl nor .csv."""
        self.path = path
        self.record = record
        self._decoder = msgspec.json.Decoder(record)
        readers = {".jsonl": self._json_lines, ".ndjson": self._json_lines, ".csv": self._csv}
        if path.suffix.lower() not in readers:
            raise RecordFileError(f"{path} is neither JSON Lines (.jsonl) nor CSV (.csv), by its ending")
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # asked first: opening a named pipe may wait for ever
                raise RecordFileError(f"{path} is not a regular file")
            self._file = path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from None
        self._state = os.fstat(self._file.fileno())
        self.size = self._state.st_size
        self._read = readers[path.suffix.lower()]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def check(self, sizes: Iterable[int] = ()) -> Summary:
        """Read every line, and find the beginnings of these sizes; raises RecordFileError when there is no line."""
        summary = Summary()

        def on_invalid(line: int, reason: str) -> None:
            summary.invalid_count += 1
            if len(summary.invalid) < _SHOWN:
                summary.invalid.append(f"{self.path}, line {line}: {reason}")

        summary.valid = sum(len(records) for _, records in self._read(on_invalid))
        if not summary.valid + summary.invalid_count:
            raise RecordFileError(f"{self.path} holds no records")
        summary.beginnings = self.beginnings({*sizes})
        return summary

    def beginnings(self, sizes: Collection[int]) -> dict[int, Beginning]:
        """Return what the file begins with, by each of these sizes in bytes that it has, after reading it once."""
        found: dict[int, Beginning] = {}
        digest, lines, end = hashlib.sha256(), 0, b""
        at = 0
        self._rewind()
        for size in sorted(sizes):
            while block := self._next(self._file.read, min(BLOCK, size - at)):
                digest.update(block)
                lines += block.count(b"\n")
                end = block[-1:]
                at += len(block)
            if at < size:
                break
            after = os.pread(self._file.fileno(), 2, size).lstrip(b"\r")
            found[size] = Beginning(digest.hexdigest(), lines + (end != b"\n" and after[:1] in {b"", b"\n"}))
        return found

    @property
    def is_changed(self) -> bool:
        """Whether its size or its time is another than when it was opened, or its name is another file's."""
        now = os.fstat(self._file.fileno())
        try:
            named = self.path.stat()
        except OSError:  # removed, or called otherwise: it is still the file that was checked
            named = now
        return (now.st_size, now.st_mtime_ns) != (self.size, self._state.st_mtime_ns) or not samestat(named, now)

    def chunks(self) -> Iterator[tuple[Sequence[int], list[R]]]:
        """Return the valid records in order, a chunk at a time, with their line numbers from 1.

        Raises RecordFileError when the file is no longer the one that was checked, or cannot be read.
        """
        for numbers, records in self._read(lambda _line, _reason: None):
            if self.is_changed:
                raise RecordFileError(f"{self.path} was changed while it was being sent")
            yield numbers, records

    def between(self, after: int, last: int) -> Iterator[tuple[Sequence[int], list[R]]]:
        """Return the records behind a line up to another as `chunks` does, of a file that may have been changed."""
        for numbers, records in self._read(lambda _line, _reason: None):
            part = slice(bisect_right(numbers, after), bisect_right(numbers, last))
            yield numbers[part], records[part]

    def _json_lines(self, on_invalid: Callable[[int, str], None]) -> Iterator[tuple[range | list[int], list[R]]]:
        line = 1
        for block in self._blocks():
            lines = block.count(b"\n") + (not block.endswith(b"\n"))
            try:
                records = self._decoder.decode_lines(block)
            except _UNDECODABLE:
                records = []
            if len(records) == lines:
                yield range(line, line + lines), records
            else:  # a bad or an empty line is among them
                yield self._one_by_one(block, line, on_invalid)
            line += lines

    def _one_by_one(
        self, block: bytes, first: int, on_invalid: Callable[[int, str], None]
    ) -> tuple[list[int], list[R]]:
        numbers: list[int] = []
        records: list[R] = []
        for number, text in enumerate(block.split(b"\n"), first):
            if not text.strip():
                continue
            try:
                records.append(self._decoder.decode(text))
                numbers.append(number)
            except _UNDECODABLE:
                on_invalid(number, self._reason(text))
        return numbers, records

    def _reason(self, text: bytes) -> str:
        """Say what is wrong with a line: that it is no JSON at all before that a value breaks the contract."""
        try:
            build(self.record, msgspec.json.decode(text))
        except Refused as error:
            return str(error)
        except UnicodeDecodeError as error:
            return f"not UTF-8: byte {error.object[error.start]:#04x}"
        except _UNDECODABLE as error:
            return f"not JSON: {error}: {shorten(text.decode('utf-8', 'replace'))}"
        return f"not a {self.record.__name__}: {shorten(text.decode('utf-8', 'replace'))}"

    def _blocks(self) -> Iterator[bytes]:
        """Cut the file at line ends; a byte order mark is no part of the first line."""
        self._rewind()
        if self._next(self._file.read, min(3, self.size)) != b"\xef\xbb\xbf":
            self._rewind()
        rest = b""
        left = self.size - self._file.tell()
        while block := self._next(self._file.read, min(BLOCK, left)):
            left -= len(block)
            lines, newline, after = (rest + block).rpartition(b"\n")
            if newline:
                yield lines + newline
            rest = after
            if len(rest) > LONGEST_LINE:
                raise RecordFileError(f"{self.path} has a line of more than {LONGEST_LINE} bytes")
        if rest:
            yield rest

    def _rewind(self) -> None:
        try:
            self._file.seek(0, os.SEEK_END)  # else what is still in the buffer would be read again, not what is there
            self._file.seek(0)
        except OSError as error:
            raise self._unreadable(error) from None

    def _next(self, read: Callable[[int], bytes], most: int) -> bytes:
        try:
            return read(most)
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> RecordFileError:
        return RecordFileError(f"{self.path} cannot be read: {error.strerror}; give the path of one that can")

    def _csv(self, on_invalid: Callable[[int, str], None]) -> Iterator[tuple[list[int], list[R]]]:
        reader = csv.DictReader(self._lines(), strict=True, restkey="(beyond the header)")
        numbers: list[int] = []
        records: list[R] = []
        try:
            names = reader.fieldnames or []
            if len(set(names)) < len(names):
                raise RecordFileError(f"{self.path}, line 1: a column is named twice")
            for row in reader:
                # What CSV calls a missing column is a missing field.
                values = {name: value for name, value in row.items() if value is not None}
                try:
                    records.append(build(self.record, values, from_text=True))
                    numbers.append(reader.line_num)
                except Refused as error:
                    on_invalid(reader.line_num, str(error))
                if len(records) == _CHUNK:
                    yield numbers, records
                    numbers, records = [], []
        except csv.Error as error:
            raise RecordFileError(f"{self.path}, line {reader.reader.line_num}: not CSV: {error}") from None
        yield numbers, records

    def _lines(self) -> Iterator[str]:
        """Give a CSV file's lines, each of a bounded length; a byte order mark is no part of the first."""
        self._rewind()
        left = self.size
        encoding = "utf-8-sig"
        for number in itertools.count(1):
            line = self._next(self._file.readline, min(LONGEST_LINE + 1, left))
            left -= len(line)
            if len(line) > LONGEST_LINE:
                raise RecordFileError(f"{self.path}, line {number} has more than {LONGEST_LINE} bytes")
            if not line:
                return
            try:
                yield line.decode(encoding)
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise RecordFileError(f"{self.path}, line {number}: not UTF-8: byte {byte:#04x}") from None
            encoding = "utf-8"
