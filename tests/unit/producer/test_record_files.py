"""Files of records: what is read, how a bad line is named, and that a big one needs no memory."""

import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.errors import RecordFileError
from contract.order import OrderV1, OrderV2
from contract.records import R, Record
from producer.record_files import BLOCK, LONGEST_LINE, Beginning, RecordFile, Summary

GOOD = b'{"pizza": "margherita", "table": 17}'


_opened: list[RecordFile[Any]] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Every file that a test opened is closed."""
    yield
    while _opened:
        _opened.pop().close()


def opened(path: Path, record: type[R]) -> RecordFile[R]:
    """Open a file of records."""
    file = RecordFile(path, record)
    _opened.append(file)
    return file


def write(directory: Path, content: bytes | str, name: str = "orders.jsonl") -> Path:
    """Write a file."""
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def numbered(path: Path, record: type[Record] = OrderV2) -> list[tuple[int, Record]]:
    """Give every record with its line."""
    file = opened(path, record)
    return [(number, one) for numbers, records in file.chunks() for number, one in zip(numbers, records, strict=True)]


def invalid(path: Path, record: type[Record] = OrderV2) -> list[str]:
    """Give the sentences about bad lines, without the file's name, which each begins with."""
    summary = opened(path, record).check()
    assert summary.invalid_count == len(summary.invalid)
    assert all(sentence.startswith(f"{path}, ") for sentence in summary.invalid)
    return [sentence.removeprefix(f"{path}, ") for sentence in summary.invalid]


class TestJsonLines:
    """A record a line."""

    def test_records_with_their_lines(self, tmp_path: Path) -> None:
        path = write(tmp_path, GOOD + b'\n{"table": 3, "pizza": "funghi", "order_id": "x"}\n')
        assert numbered(path) == [(1, OrderV2("margherita", 17)), (2, OrderV2("funghi", 3, "x"))]

    @pytest.mark.parametrize("suffix", ["jsonl", "JSONL", "ndjson"])
    def test_its_endings(self, tmp_path: Path, suffix: str) -> None:
        assert len(numbered(write(tmp_path, GOOD, f"orders.{suffix}"))) == 1

    def test_the_last_line_may_lack_its_end(self, tmp_path: Path) -> None:
        assert [number for number, _ in numbered(write(tmp_path, GOOD + b"\n" + GOOD))] == [1, 2]

    def test_line_ends_of_windows(self, tmp_path: Path) -> None:
        assert [number for number, _ in numbered(write(tmp_path, (GOOD + b"\r\n") * 3))] == [1, 2, 3]

    def test_a_byte_order_mark_is_no_part_of_the_first_line(self, tmp_path: Path) -> None:
        path = write(tmp_path, b"\xef\xbb\xbf" + GOOD)
        assert opened(path, OrderV2).check().valid == 1
        assert numbered(path) == [(1, OrderV2("margherita", 17))]

    @pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \t\n"])
    def test_blank_lines_are_passed_over_and_counted(self, tmp_path: Path, blank: bytes) -> None:
        path = write(tmp_path, blank + GOOD + b"\n" + blank * 2 + GOOD + b"\n" + blank)
        assert [number for number, _ in numbered(path)] == [2, 5]
        assert opened(path, OrderV2).check().valid == 2

    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            (b'{"pizza": "", "table": 1}', "pizza is '', expected str of length >= 1"),
            (b'{"pizza": "a", "table": 0}', "table is 0, expected int >= 1"),
            (b'{"pizza": "a", "table": 1.0}', "table is 1.0, expected int, got float"),
            (b'{"pizza": "a", "table": "1"}', "table is '1', expected int, got str"),
            (b'{"pizza": "a", "table": 1099511627776}', "table is 1099511627776, expected int <= 2147483647"),
            (b'{"pizza": "a"}', "object missing required field table"),
            (b'{"pizza": "a", "tabel": 1}', "object contains unknown field tabel"),
            (b"null", "expected object, got null: None"),
            (b"[]", "expected object, got array: []"),
            (b"margherita", "not JSON: JSON is malformed: invalid character (byte 0): 'margherita'"),
            (b'{"pizza": "a", "table": 1', "not JSON: Input data was truncated: "),
            (b'{"pizza": "a", "table": 1} {}', "not JSON: JSON is malformed: trailing characters"),
            (b'{"table": 0, oops', "not JSON: JSON is malformed: "),
            (b'{"pizza": "\\ud800", "table": 1}', "not JSON: JSON is malformed: "),
            (b'{"pizza": "\xff", "table": 1}', "not UTF-8: byte 0xff"),
            (b'{"table": 0, "pizza": "\xff"}', "not UTF-8: byte 0xff"),
            (b'{"pizza": "a", "table": ' + b"9" * 5_000 + b"}", "not JSON: Integer value out of range"),
            (b"[" * 200_000 + b"]" * 200_000, "not JSON: maximum recursion depth exceeded"),
            (b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "not JSON: maximum recursion depth exceeded"),
            (b"\x00", r"not JSON: JSON is malformed: invalid character (byte 0): '\x00'"),
        ],
    )
    def test_a_bad_line_is_named_by_number_field_and_reason(self, tmp_path: Path, line: bytes, sentence: str) -> None:
        """And the good ones around it are still there."""
        path = write(tmp_path, GOOD + b"\n\n" + line + b"\n" + GOOD + b"\n")
        (found,) = invalid(path)
        assert found.startswith(f"line 3: {sentence}")
        assert len(found) < 200
        assert [number for number, _ in numbered(path)] == [1, 4]

    def test_only_the_first_20_bad_lines_are_kept(self, tmp_path: Path) -> None:
        summary = opened(write(tmp_path, b"{}\n" * 1_000 + GOOD), OrderV2).check()
        assert (summary.valid, summary.invalid_count, len(summary.invalid)) == (1, 1_000, 20)
        assert "line 20:" in summary.invalid[-1]

    def test_a_line_that_is_too_long_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, GOOD + b"\n" + b"x" * (LONGEST_LINE + BLOCK + 1))
        with pytest.raises(RecordFileError, match=f"has a line of more than {LONGEST_LINE} bytes"):
            opened(path, OrderV2).check()

    def test_a_long_line_within_the_limit_is_read(self, tmp_path: Path) -> None:
        """Across several blocks."""
        path = write(tmp_path, GOOD + b"\n" + b" " * (BLOCK * 3) + GOOD + b"\n" + GOOD)
        assert [number for number, _ in numbered(path)] == [1, 2, 3]

    @pytest.mark.parametrize("ends", ["after", "within", "before"])
    @pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
    def test_lines_are_numbered_rightly_across_blocks(self, tmp_path: Path, ends: str, newline: bytes) -> None:
        """A block that ends just after, within and just before a line's end; bad and blank lines near it."""
        padding = BLOCK - 2 * len(GOOD) - 2 * len(newline) + {"after": 0, "within": 5, "before": 1}[ends]
        first = GOOD[:-1] + b" " * padding + b"}"
        lines = [first, GOOD, b"{}", b"", *[GOOD] * 20_000, b"{}", GOOD]
        path = write(tmp_path, newline.join(lines))
        assert path.stat().st_size > 2 * BLOCK
        assert [number for number, _ in numbered(path)] == [
            number for number, line in enumerate(lines, 1) if line not in {b"", b"{}"}
        ]
        assert [found.split(":")[0] for found in invalid(path)] == ["line 3", f"line {len(lines) - 1}"]


class TestCsv:
    """A header, then a record a row."""

    def test_records_with_their_lines(self, tmp_path: Path) -> None:
        path = write(tmp_path, 'pizza,table\nmargherita,17\n"prosciutto, ""funghi""",3\n', "orders.csv")
        assert numbered(path) == [(2, OrderV2("margherita", 17)), (3, OrderV2('prosciutto, "funghi"', 3))]

    @pytest.mark.parametrize(
        "content", [b"\xef\xbb\xbfpizza,table\r\na,1\r\n", b"table,pizza\n1,a", b"pizza,table\n\na,1\n"]
    )
    def test_byte_order_mark_line_ends_columns_and_blank_lines(self, tmp_path: Path, content: bytes) -> None:
        assert [record for _, record in numbered(write(tmp_path, content, "orders.CSV"), OrderV1)] == [OrderV1("a", 1)]

    @pytest.mark.parametrize(
        ("row", "sentence"),
        [
            ("a,0", "table is '0', expected int >= 1"),
            ("a,abc", "table is 'abc', expected int, got str"),
            ("a,", "table is '', expected int, got str"),
            (",1", "pizza is '', expected str of length >= 1"),
            ("a", "object missing required field table"),
            ("a,1,2", "object contains unknown field (beyond the header)"),
            ("a,4294967296", "table is '4294967296', expected int <= 2147483647"),
        ],
    )
    def test_a_bad_row_is_named_by_number_field_and_reason(self, tmp_path: Path, row: str, sentence: str) -> None:
        path = write(tmp_path, f"pizza,table\na,1\n\n{row}\nb,2\n", "orders.csv")
        assert invalid(path) == [f"line 4: {sentence}"]
        assert [number for number, _ in numbered(path)] == [2, 5]

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b'pizza,table\na,1\n"a"b,1\n', "line 3: not CSV: ',' expected after '\"'"),
            (b'pizza,table\na,1\n"a,1\n', "line 3: not CSV: unexpected end of data"),
            (b"pizza,table\n" + b"a" * 200_000 + b",1\n", "line 2: not CSV: field larger than field limit"),
            (b"pizza,table\na,1\n\xff,1\n", "not UTF-8: byte 0xff"),
        ],
    )
    def test_what_is_no_csv_is_named_by_its_line(self, tmp_path: Path, content: bytes, sentence: str) -> None:
        with pytest.raises(RecordFileError) as refused:
            opened(write(tmp_path, content, "orders.csv"), OrderV2).check()
        assert sentence in str(refused.value)

    def test_a_file_of_another_shape(self, tmp_path: Path) -> None:
        path = write(tmp_path, "pizza;table\na;1\n", "orders.csv")
        assert invalid(path) == ["line 2: object contains unknown field pizza;table"]

    def test_rows_are_numbered_rightly_across_chunks(self, tmp_path: Path) -> None:
        """Also where a quoted value spans lines: a row is where it ends."""
        rows = [f"p{number},{number}" for number in range(1, 2_501)]
        path = write(tmp_path, "pizza,table\n" + "\n".join(rows) + '\n"two\nlines",1\nlast,1\n', "orders.csv")
        found = [number for number, _ in numbered(path)]
        assert found == [*range(2, 2_502), 2_503, 2_504]


class TestFiles:
    """What cannot be read at all."""

    @pytest.mark.parametrize(
        ("name", "content", "sentence"),
        [
            ("orders.jsonl", b"", "holds no records"),
            ("orders.jsonl", b"\xef\xbb\xbf", "holds no records"),
            ("orders.jsonl", b"\n\n \n", "holds no records"),
            ("orders.csv", b"", "holds no records"),
            ("orders.csv", b"pizza,table\n", "holds no records"),
            ("orders.txt", GOOD, "is neither JSON Lines (.jsonl) nor CSV (.csv), by its ending"),
            ("orders", GOOD, "is neither JSON Lines (.jsonl) nor CSV (.csv), by its ending"),
        ],
    )
    def test_empty_or_of_another_kind(self, tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
        path = write(tmp_path, content, name)
        with pytest.raises(RecordFileError) as refused:
            opened(path, OrderV2).check()
        assert str(refused.value) == f"{path} {sentence}"

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(RecordFileError, match="read: No such file or directory; give the path of one that can"):
            opened(tmp_path / "orders.jsonl", OrderV2)

    def test_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "orders.jsonl").mkdir()
        with pytest.raises(RecordFileError, match="is not a regular file"):
            opened(tmp_path / "orders.jsonl", OrderV2)

    @pytest.mark.timeout(10)
    def test_a_named_pipe_is_refused_without_waiting_for_its_writer(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "orders.jsonl")
        with pytest.raises(RecordFileError, match="is not a regular file"):
            opened(tmp_path / "orders.jsonl", OrderV2)

    def test_no_permission(self, tmp_path: Path) -> None:
        path = write(tmp_path, GOOD)
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("whoever runs this may read everything")
        with pytest.raises(RecordFileError, match="cannot be read: Permission denied"):
            opened(path, OrderV2)


class TestTwoReadings:
    """Checked first, sent then: both read the same."""

    def test_the_summary(self, tmp_path: Path) -> None:
        """The digest is of the bytes, so that the same file has the same identities wherever it is."""
        content = GOOD + b"\n{}\n"
        path = write(tmp_path, content)
        summary = opened(path, OrderV2).check([len(content)])
        sentence = f"{path}, line 2: object missing required field pizza"
        beginning = Beginning(hashlib.sha256(content).hexdigest(), 2)
        assert summary == Summary(1, 1, [sentence], {len(content): beginning})

    @pytest.mark.parametrize("name", ["orders.jsonl", "orders.csv"])
    def test_a_file_may_be_read_after_it_was_checked(self, tmp_path: Path, name: str) -> None:
        content = GOOD + b"\n" if name.endswith("jsonl") else b"pizza,table\nmargherita,17\n"
        file = opened(write(tmp_path, content, name), OrderV2)
        for _ in range(2):
            assert file.check().valid == 1
            assert [len(records) for _, records in file.chunks()] == [1]

    def test_a_file_that_was_changed_between_is_not_sent_at_all(self, tmp_path: Path) -> None:
        path = write(tmp_path, GOOD + b"\n")
        file = opened(path, OrderV2)
        file.check()
        write(tmp_path, GOOD * 2 + b"\n")
        with pytest.raises(RecordFileError, match="was changed while it was being sent"):
            next(file.chunks())

    def test_a_file_that_grows_meanwhile_is_not_sent_to_its_end(self, tmp_path: Path) -> None:
        path = write(tmp_path, (GOOD + b"\n") * 10_000)
        file = opened(path, OrderV2)
        file.check()
        chunks = file.chunks()
        next(chunks)
        with path.open("ab") as more:
            more.write(GOOD)
        with pytest.raises(RecordFileError, match="was changed while it was being sent"):
            list(chunks)

    @pytest.mark.parametrize("name", ["orders.jsonl", "orders.csv"])
    def test_what_is_added_after_it_was_opened_is_not_read(self, tmp_path: Path, name: str) -> None:
        line = GOOD + b"\n" if name.endswith("jsonl") else b"margherita,17\n"
        header = b"" if name.endswith("jsonl") else b"pizza,table\n"
        path = write(tmp_path, header + line * 3_000, name)
        file = opened(path, OrderV2)
        with path.open("ab") as more:
            more.write(line * 3)
        assert file.check().valid == 3_000

    @pytest.mark.parametrize(
        ("content", "after", "lines"),
        [
            (b"a\nb\n", b"", 2),
            (b"a\nb\n", b"c", 2),
            (b"a\nb", b"", 2),
            (b"a\nb", b"\n", 2),
            (b"a\nb", b"\r\nc", 2),
            (b"a\nb\r", b"\nc", 2),
            (b"a\nb", b"c\n", 1),
            (b"a\nb", b" \n", 1),
            (b"a", b"b", 0),
        ],
    )
    def test_a_line_is_of_a_beginning_where_it_ends_with_it(
        self, tmp_path: Path, content: bytes, after: bytes, lines: int
    ) -> None:
        file = opened(write(tmp_path, content + after), OrderV2)
        sizes = {len(content), len(content + after)}
        assert file.beginnings({1_000, *sizes}).keys() == sizes
        assert file.beginnings(sizes)[len(content)] == Beginning(hashlib.sha256(content).hexdigest(), lines)

    @pytest.mark.parametrize("name", ["orders.jsonl", "orders.csv"])
    def test_a_disk_that_fails_is_named(self, tmp_path: Path, name: str) -> None:
        """The memory of a process is a file that has no end and cannot be read at its beginning."""
        (tmp_path / name).symlink_to("/proc/self/mem")
        with pytest.raises(RecordFileError, match=f"{name} cannot be read: "):
            opened(tmp_path / name, OrderV2).check()


@pytest.mark.parametrize("name", ["orders.jsonl", "orders.csv"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    """Fifty megabytes in less than ten, with a bad line in every block so that the slow way is taken too."""
    path = tmp_path / name
    line, bad = (
        ('{"pizza": "%s", "table": 1}\n' % ("x" * 60), "{}\n") if name.endswith("l") else ("x" * 60 + ",1\n", ",0\n")
    )
    megabytes = 50 if name.endswith("l") else 4
    with path.open("w") as file:
        file.write("" if name.endswith("l") else "pizza,table\n")
        for number in range(megabytes * 4):
            file.write(line * (BLOCK // len(line)) + (bad if number % 20 == 0 else ""))
    tracemalloc.start()
    try:
        records = opened(path, OrderV1)
        summary = records.check()
        count = sum(len(chunk) for _, chunk in records.chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == summary.valid
    assert summary.invalid_count == len(range(0, megabytes * 4, 20))
    assert peak < 10_000_000
