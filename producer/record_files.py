"""Files of records, JSON Lines or CSV by their ending, read twice: once to check every line, once to send them.

Memory is bounded by a block of the file, whatever its size.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

import msgspec

from contract.errors import RecordFileError, Refused
from contract.records import R, build, shorten

BLOCK = 256 * 1024
LONGEST_LINE = 1024 * 1024
_SHOWN = 20
_CHUNK = 1_000
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass
class Summary:
    """What the first reading found; `invalid` has a sentence for each of the first bad lines."""

    digest: str = ""
    valid: int = 0
    invalid_count: int = 0
    invalid: list[str] = field(default_factory=list)


class RecordFile(Generic[R]):
    """A file of records of one version."""

    def __init__(self, path: Path, record: type[R]) -> None:
        """Open the file; raises RecordFileError when it cannot be read or is neither .jsonl nor .csv."""
        self._path = path
        self._record = record
        self._decoder = msgspec.json.Decoder(record)
        readers = {".jsonl": self._json_lines, ".ndjson": self._json_lines, ".csv": self._csv}
        if path.suffix.lower() not in readers:
            raise RecordFileError(f"{path} is neither JSON Lines (.jsonl) nor CSV (.csv), by its ending")
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # asked first: opening a named pipe may wait for ever
                raise RecordFileError(f"{path} is not a regular file")
            self._file = path.open("rb")
        except OSError as error:
            raise RecordFileError(f"{path} cannot be read: {error.strerror}; give the path of one that can") from None
        self._state = self._stat()
        self._read = readers[path.suffix.lower()]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def check(self) -> Summary:
        """Read every line; raises RecordFileError when there is none at all."""
        summary = Summary()

        def on_invalid(line: int, reason: str) -> None:
            summary.invalid_count += 1
            if len(summary.invalid) < _SHOWN:
                summary.invalid.append(f"{self._path}, line {line}: {reason}")

        summary.valid = sum(len(records) for _, records in self._read(on_invalid))
        if not summary.valid + summary.invalid_count:
            raise RecordFileError(f"{self._path} holds no records")
        self._file.seek(0)
        summary.digest = hashlib.file_digest(self._file, "sha256").hexdigest()
        return summary

    def chunks(self) -> Iterator[tuple[range | list[int], list[R]]]:
        """Give the valid records in order, a chunk at a time, with their line numbers from 1.

        Raises RecordFileError when the file is no longer the one that was checked.
        """
        for numbers, records in self._read(lambda _line, _reason: None):
            now = self._stat()
            if (now.st_size, now.st_mtime_ns) != (self._state.st_size, self._state.st_mtime_ns):
                raise RecordFileError(f"{self._path} was changed while it was being sent; give it again, as it is now")
            yield numbers, records

    def _stat(self) -> os.stat_result:
        return os.fstat(self._file.fileno())

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
            build(self._record, msgspec.json.decode(text))
        except Refused as error:
            return str(error)
        except UnicodeDecodeError as error:
            return f"not UTF-8: byte {error.object[error.start]:#04x}"
        except _UNDECODABLE as error:
            return f"not JSON: {error}: {shorten(text.decode('utf-8', 'replace'))}"
        return f"not a {self._record.__name__}: {shorten(text.decode('utf-8', 'replace'))}"

    def _blocks(self) -> Iterator[bytes]:
        """Cut the file at line ends; a byte order mark is no part of the first line."""
        self._file.seek(3 if self._file.seek(0) == 0 and self._file.read(3) == b"\xef\xbb\xbf" else 0)
        rest = b""
        while block := self._file.read(BLOCK):
            lines, newline, after = (rest + block).rpartition(b"\n")
            if newline:
                yield lines + newline
            rest = after
            if len(rest) > LONGEST_LINE:
                raise RecordFileError(f"{self._path} has a line of more than {LONGEST_LINE} bytes")
        if rest:
            yield rest

    def _csv(self, on_invalid: Callable[[int, str], None]) -> Iterator[tuple[list[int], list[R]]]:
        reader = csv.DictReader(self._lines(), strict=True, restkey="(beyond the header)")
        numbers: list[int] = []
        records: list[R] = []
        try:
            names = reader.fieldnames or []
            if len(set(names)) < len(names):
                raise RecordFileError(f"{self._path}, line 1: a column is named twice")
            for row in reader:
                # What CSV calls a missing column is a missing field.
                values = {name: value for name, value in row.items() if value is not None}
                try:
                    records.append(build(self._record, values, from_text=True))
                    numbers.append(reader.line_num)
                except Refused as error:
                    on_invalid(reader.line_num, str(error))
                if len(records) == _CHUNK:
                    yield numbers, records
                    numbers, records = [], []
        except csv.Error as error:
            raise RecordFileError(f"{self._path}, line {reader.reader.line_num}: not CSV: {error}") from None
        yield numbers, records

    def _lines(self) -> Iterator[str]:
        """Give a CSV file's lines, each of a bounded length; a byte order mark is no part of the first."""
        self._file.seek(0)
        encoding = "utf-8-sig"
        for number in itertools.count(1):
            line = self._file.readline(LONGEST_LINE + 1)
            if len(line) > LONGEST_LINE:
                raise RecordFileError(f"{self._path}, line {number} has more than {LONGEST_LINE} bytes")
            if not line:
                return
            try:
                yield line.decode(encoding)
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise RecordFileError(f"{self._path}, line {number}: not UTF-8: byte {byte:#04x}") from None
            encoding = "utf-8"
