"""Publishing a file: what is sent under which identity, what is said at the end, what is kept."""

import hashlib
import os
import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Annotated, Any, ClassVar, cast

import pytest
from msgspec import Meta

from contract.errors import RecordFileError, SettingError, StorageUnavailable
from contract.order import OrderV1, OrderV2
from contract.records import Record
from contract.subjects import Subject
from producer.bulk import add_file_arguments, publish_file
from producer.publishing import Delivery, RecordProducer, print_delivery
from producer.record_files import RecordFile
from producer.undelivered import Undelivered

ORDERS = b'{"pizza": "margherita", "table": 1}\n\n{"pizza": "funghi", "table": 2, "order_id": "mine"}\n'


class Short(Record, frozen=True):
    """A record whose identity is short."""

    pizza: str
    table: int
    order_id: Annotated[str, Meta(max_length=34)] = ""

    VERSION: ClassVar[int] = 1
    SCHEMA: ClassVar[str] = ""


class Recorder:
    """Stands where a RecordProducer does, without a broker: keeps what it is given, acknowledges up to a limit."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self.sent: list[Any] = []
        self.connected = 0
        self._limit = limit

    def connect(self) -> RecordProducer[Any]:
        """Be the producer."""
        self.connected += 1
        return cast(RecordProducer[Any], self)

    def publish_all(
        self,
        chunks: Iterable[Sequence[Record]],
        on_failure: Callable[[Record, str], object],
        on_delivery: Callable[[Delivery], object] | None = None,
        _stop: Event | None = None,
    ) -> int:
        """Acknowledge records."""
        for record in (record for chunk in chunks for record in chunk):
            if len(self.sent) == self._limit:
                on_failure(record, "no broker")
                continue
            if on_delivery is not None:
                on_delivery(Delivery(0, len(self.sent)))
            self.sent.append(record)
        return len(self.sent)


@pytest.fixture
def recorder() -> Recorder:
    """A producer that acknowledges everything."""
    return Recorder()


@pytest.fixture
def publish(tmp_path: Path, subject: Subject) -> Callable[..., int]:
    """Publish a file as the waiter would."""

    def call(
        recorder: Recorder,
        *flags: str,
        content: bytes = ORDERS,
        record: type[Record] = OrderV2,
        path: Path | None = None,
    ) -> int:
        path = path or tmp_path / "orders.jsonl"
        path.write_bytes(content)
        with closing(RecordFile(path, record)) as file:
            return publish_file(parsed(*flags), file, subject, recorder.connect, tmp_path / "data", Event, str)

    return call


def parsed(*flags: str) -> Namespace:
    """Parse the flags of a file."""
    parser = ArgumentParser()
    add_file_arguments(parser)
    return parser.parse_args(flags)


class TestIdentities:
    """Made before the first send, and the same whenever the same file is sent."""

    def test_digest_and_line(self, publish: Callable[..., int], recorder: Recorder) -> None:
        digest = hashlib.sha256(ORDERS).hexdigest()[:24]
        assert publish(recorder) == 0
        assert recorder.sent == [OrderV2("margherita", 1, f"{digest}:0000000001"), OrderV2("funghi", 2, "mine")]

    def test_they_grow_in_order(self, publish: Callable[..., int], recorder: Recorder) -> None:
        publish(recorder, content=b'{"pizza": "a", "table": 1}\n' * 1_200)
        identities = [order.order_id for order in recorder.sent]
        assert identities == sorted(set(identities))
        assert len(identities) == 1_200

    def test_the_same_file_sent_again_has_the_same(
        self, publish: Callable[..., int], recorder: Recorder, tmp_path: Path
    ) -> None:
        """Also under another name."""
        again = Recorder()
        publish(recorder)
        publish(again, path=tmp_path / "copy.jsonl")
        assert again.sent == recorder.sent

    @pytest.mark.parametrize("name", ["evening", "", "x" * 10_000, "\n:é\udcff\ud800\0"])
    def test_a_batch_name_makes_others(self, publish: Callable[..., int], recorder: Recorder, name: str) -> None:
        """Whatever the name is."""
        named = hashlib.sha256(ORDERS).digest() + b"\0" + name.encode("utf-8", "surrogatepass")
        assert publish(recorder, "--batch", name) == 0
        batch = hashlib.sha256(named).hexdigest()[:24]
        assert [order.order_id for order in recorder.sent] == [f"{batch}:0000000001", "mine"]

    def test_two_files_of_one_batch_share_none(
        self, publish: Callable[..., int], recorder: Recorder, tmp_path: Path
    ) -> None:
        """Although their first lines are equal; the same file in the same batch has the same again."""
        one = b'{"pizza": "a", "table": 1}\n'
        for content in (one * 2, one * 3, one * 2):
            publish(recorder, "--batch", "evening", content=content, path=tmp_path / "orders.jsonl")
        identities = [order.order_id for order in recorder.sent]
        assert len(set(identities)) == 5
        assert identities[:2] == identities[5:]

    def test_a_schema_without_room_for_them_is_refused_before_anything_is_sent(
        self, publish: Callable[..., int], recorder: Recorder
    ) -> None:
        """But not a file that needs none."""
        with pytest.raises(RecordFileError, match=r"has lines without order_id.* expected str of length <="):
            publish(recorder, record=Short)
        assert (recorder.connected, recorder.sent) == (0, [])
        assert publish(recorder, content=b'{"pizza": "a", "table": 1, "order_id": "mine"}\n', record=Short) == 0

    def test_a_version_without_an_identity_has_none(self, publish: Callable[..., int], recorder: Recorder) -> None:
        assert publish(recorder, content=b'{"pizza": "a", "table": 1}\n', record=OrderV1) == 0
        assert recorder.sent == [OrderV1("a", 1)]


class TestInvalid:
    """A file with bad lines."""

    CONTENT = b'{"pizza": "a", "table": 1}\n{"pizza": "a", "table": 0}\n{"pizza": "b", "table": 2}\n'

    def test_nothing_of_it_is_sent_and_nobody_asked(
        self, publish: Callable[..., int], recorder: Recorder, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        assert publish(recorder, content=self.CONTENT) == 1
        assert (recorder.connected, recorder.sent) == (0, [])
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err == (
            f"{tmp_path}/orders.jsonl, line 2: table is 0, expected int >= 1\n"
            "1 bad line; nothing was sent; mend them, or send the rest with --skip-invalid\n"
        )

    def test_skip_invalid_sends_the_rest_and_exits_with_1(
        self, publish: Callable[..., int], recorder: Recorder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert publish(recorder, "--skip-invalid", content=self.CONTENT) == 1
        assert [(order.pizza, order.order_id[-2:]) for order in recorder.sent] == [("a", "01"), ("b", "03")]
        assert "1 bad line; the rest is sent; send these, mended, in a file of their own\n" in capsys.readouterr().err

    def test_how_many_more_there_are(
        self, publish: Callable[..., int], recorder: Recorder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        publish(recorder, content=b"{}\n" * 50)
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 21
        assert errors[-1].startswith("50 bad lines (30 not shown); nothing was sent; ")


class TestOutput:
    """The workshop's line on standard output, the rest on standard error."""

    def test_the_line_at_the_end(
        self, publish: Callable[..., int], recorder: Recorder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        publish(recorder)
        output = capsys.readouterr()
        assert output.out == ""
        assert re.fullmatch(r"published 2 orders in \d+\.\d\d s \(\d+ orders/s\)\n", output.err)

    def test_verbose_prints_a_line_for_each(
        self, publish: Callable[..., int], recorder: Recorder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        publish(recorder, "--verbose")
        assert capsys.readouterr().out == (
            "message published on partition 0 with offset 0\nmessage published on partition 0 with offset 1\n"
        )

    def test_the_workshops_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_delivery(Delivery(2, 41))
        assert capsys.readouterr().out == "message published on partition 2 with offset 41\n"


class TestUndelivered:
    """What was not acknowledged is named, kept and can be sent again."""

    def test_it_is_kept_with_its_identities(
        self, publish: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stuck = Recorder(limit=1)
        assert publish(stuck, content=b'{"pizza": "a", "table": 1}\n' * 3) == 1
        (kept,) = (tmp_path / "data").glob("undelivered-*.jsonl")
        error = capsys.readouterr().err
        assert error.splitlines()[0].startswith("published 1 order in ")
        assert f"2 orders were not acknowledged (no broker) and are kept in {kept}; " in error
        again = Recorder()
        assert publish(again, content=kept.read_bytes(), path=tmp_path / kept.name) == 0
        assert [order.order_id[-4:] for order in again.sent] == ["0002", "0003"]
        assert again.sent[0].order_id.split(":")[0] == stuck.sent[0].order_id.split(":")[0]

    def test_nothing_is_kept_where_all_was_acknowledged(
        self, publish: Callable[..., int], recorder: Recorder, tmp_path: Path
    ) -> None:
        publish(recorder)
        assert [*(tmp_path / "data").iterdir()] == []

    def test_a_directory_that_cannot_be_made_is_named(
        self, publish: Callable[..., int], recorder: Recorder, tmp_path: Path
    ) -> None:
        """Before anybody is asked."""
        (tmp_path / "data").write_text("a file")
        with pytest.raises(StorageUnavailable, match=r"/data cannot be read: Not a directory; nothing was sent"):
            publish(recorder)
        assert (recorder.connected, recorder.sent) == (0, [])

    def test_what_cannot_be_kept_after_all_is_said_with_what_to_do(
        self, publish: Callable[..., int], tmp_path: Path
    ) -> None:
        """As when the directory is gone meanwhile."""

        class Moving(Recorder):
            def publish_all(self, *arguments: Any) -> int:
                (tmp_path / "data").rename(tmp_path / "elsewhere")
                (tmp_path / "data").write_text("a file")
                return super().publish_all(*arguments)

        with pytest.raises(StorageUnavailable) as refused:
            publish(Moving(limit=1))
        assert re.search(
            r"data/undelivered-.*\.jsonl cannot be written: File exists; "
            r"give .*orders\.jsonl again: what was sent of it is recorded once$",
            str(refused.value),
        )

    def test_a_file_whose_rest_cannot_be_kept_is_to_be_restored_where_it_is_another_one(
        self, publish: Callable[..., int], tmp_path: Path
    ) -> None:
        class Replacing(Recorder):
            def publish_all(self, *arguments: Any) -> int:
                (tmp_path / "data").chmod(0o777)
                (tmp_path / "orders.jsonl").unlink()
                (tmp_path / "orders.jsonl").write_bytes(ORDERS.replace(b"funghi", b"napoli"))
                return super().publish_all(*arguments)

        with pytest.raises(StorageUnavailable, match=r"give .*orders\.jsonl again, restored as it was: what was sent"):
            publish(Replacing(limit=1))

    def test_a_directory_that_has_come_to_be_refused_is_said_with_what_to_do(
        self, publish: Callable[..., int], tmp_path: Path
    ) -> None:
        """As one that others may write since the sending began."""

        class Opening(Recorder):
            def publish_all(self, *arguments: Any) -> int:
                (tmp_path / "data").chmod(0o777)
                return super().publish_all(*arguments)

        with pytest.raises(StorageUnavailable, match=r"chmod go-w .*; give .*orders\.jsonl again: what was sent of it"):
            publish(Opening(limit=1))

    def test_one_of_a_kind_is_singular(self, publish: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
        publish(Recorder(limit=1))
        assert "\n1 order was not acknowledged (no broker) and is kept in " in capsys.readouterr().err

    def test_two_files_of_the_same_moment_have_two_names(self, tmp_path: Path) -> None:
        """As two containers do that share a volume, and both of whose processes are number 1."""
        paths: list[Path] = []
        for _ in range(3):
            with Undelivered[OrderV2](tmp_path) as undelivered:
                undelivered.add(OrderV2("a", 1, "mine"), "no broker")
            paths.append(undelivered.path)
        assert sorted(paths) == sorted(tmp_path.iterdir())
        assert all(re.fullmatch(r"undelivered-\d+T\d+-\d+(-\d)?\.jsonl", path.name) for path in paths)

    def test_it_is_kept_for_us_alone(self, publish: Callable[..., int], tmp_path: Path) -> None:
        publish(Recorder(limit=0))
        for path in (tmp_path / "data").iterdir():
            assert [one.stat().st_mode & 0o777 for one in (path, path.parent)] == [0o600, 0o700]

    def test_nothing_is_sent_where_others_could_plant_what_is_kept(
        self, publish: Callable[..., int], recorder: Recorder, tmp_path: Path
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data").chmod(0o777)
        with pytest.raises(SettingError, match=f"run: chmod go-w {tmp_path}/data, or set DATA_DIR"):
            publish(recorder)
        assert (recorder.connected, recorder.sent) == (0, [])

    def test_a_link_in_its_place_is_not_followed(self, publish: Callable[..., int], tmp_path: Path) -> None:
        """Whatever second it is planted for, and whether its target is there."""
        (tmp_path / "data").mkdir()
        now = time.time()
        for second in range(-1, 30):
            name = time.strftime("%Y%m%dT%H%M%S", time.localtime(now + second))
            link = tmp_path / "data" / f"undelivered-{name}-{os.getpid()}.jsonl"
            link.symlink_to(tmp_path / ("nothing" if second % 2 else "orders.jsonl"))
        assert publish(Recorder(limit=0)) == 1
        (kept,) = (tmp_path / "data").glob("undelivered-*-2.jsonl")
        assert len(kept.read_bytes().splitlines()) == 2
        assert not (tmp_path / "nothing").exists()
        assert (tmp_path / "orders.jsonl").read_bytes() == ORDERS
