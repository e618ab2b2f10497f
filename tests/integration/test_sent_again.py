"""Whatever happens to a file or an order while it is sent: given again as the waiter says, each is recorded once."""

from __future__ import annotations

import json
import re
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from stack.local import LocalStack, free_port
from tests.restaurant import Restaurant, Service, wait_until
from tests.servers import running

pytestmark = pytest.mark.integration

# Two hundred orders a second or so: a file is still being sent when something happens to it.
SLOWLY = {"KAFKA_QUEUE_BUFFERING_MAX_MESSAGES": "100", "KAFKA_LINGER_MS": "500"}
LINES = 1_000
ADDED = 50


def line_of(number: int) -> str:
    """Return a line that a block of the file has some 250 of, so that few lines are several blocks."""
    return json.dumps({"pizza": f"number {number}", "table": number % 40 + 1}).ljust(1_000)


class File:
    """A file of orders to which lines are added, and what is to be recorded of it."""

    def __init__(self, restaurant: Restaurant, name: str = "orders.jsonl", lines: int = LINES) -> None:
        self._restaurant = restaurant
        self._csv = name.endswith(".csv")
        self.path = restaurant.directory / name
        self.count = 0
        self.path.write_text("pizza,table\n" if self._csv else "")
        self.add(lines)

    def add(self, count: int = ADDED) -> None:
        """Add lines at the end."""
        numbers = range(self.count, self.count + count)
        lines = (f"number {number},{number % 40 + 1}" if self._csv else line_of(number) for number in numbers)
        with self.path.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))
        self.count += count

    def give(self, *flags: str) -> str:
        """Send it, whole; return what is said."""
        sent = self._restaurant.waiter("--orders", str(self.path), *flags)
        assert sent.returncode == 0, sent.stderr
        return sent.stderr

    def start(self, *flags: str) -> Service:
        """Begin to send it, slowly, and stop the waiter's process when the first orders are acknowledged."""
        command = ("-m", "producer.waiter", "--orders", str(self.path), "--verbose", *flags)
        waiter = self._restaurant.start_program("waiter", *command, env=SLOWLY)
        wait_until(lambda: waiter.out.read_bytes() or waiter.process.poll() is not None, what="the first order")
        waiter.process.send_signal(signal.SIGSTOP)
        assert waiter.process.poll() is None, waiter.errors()
        return waiter

    def start_and_grow(self) -> Service:
        """Begin to send it, and add lines meanwhile; return the waiter when it has ended."""
        waiter = self.start()
        self.add()
        assert go_on(waiter) == 1
        return waiter


def go_on(waiter: Service) -> int:
    """Let a stopped waiter go on; return its exit code."""
    waiter.process.send_signal(signal.SIGCONT)
    return waiter.process.wait(60)


def kept(restaurant: Restaurant, *, count: int = 1) -> list[Path]:
    """Return the files of what was not acknowledged."""
    found = sorted(restaurant.data.glob("undelivered-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    assert len(found) == count
    return found


def notes(restaurant: Restaurant) -> list[str]:
    """Return what the waiter remembers of files that were not sent whole."""
    return sorted(path.name for path in restaurant.data.glob("sending-*"))


def recorded(restaurant: Restaurant) -> list[str]:
    """Return the pizzas of the ledger, in the order of their numbers, once a manager has recorded all of the topic."""
    last = restaurant.waiter("the last one", "9")
    assert last.returncode == 0
    end = int(last.stdout.split()[-1]) + 1
    manager = restaurant.start("manager")
    wait_until(lambda: restaurant.rows("SELECT next_offset FROM partitions") == [(end,)], what="all recorded")
    assert manager.stop() == 0
    letters = restaurant.run("-m", "consumers.dead_letters", "list", "manager")
    assert "0 letters" in letters.stdout
    return [row[6] for row in restaurant.rows() if row[6] != "the last one"]


def each_once(restaurant: Restaurant, count: int) -> None:
    """Fail when an order is missing from the ledger, or is there twice."""
    found = recorded(restaurant)
    assert sorted(found) == sorted(f"number {number}" for number in range(count))


@pytest.mark.parametrize("name", ["orders.jsonl", "orders.csv"])
@pytest.mark.parametrize("order", ["kept, grown", "grown, kept", "grown"])
def test_a_file_that_grows_while_it_is_sent(restaurant: Restaurant, name: str, order: str) -> None:
    """What was not sent is kept; that and the grown file complete it, in whatever order, and the grown file alone."""
    file = File(restaurant, name, 3_000 if name.endswith("csv") else LINES)
    checked = file.count
    waiter = file.start_and_grow()
    (left,) = kept(restaurant)
    said = waiter.errors()
    (published,) = re.findall(r"^published (\d+) orders in ", said, re.MULTILINE)
    (not_sent,) = re.findall(r"^(\d+) orders were not acknowledged ", said, re.MULTILINE)
    assert int(published) + int(not_sent) == checked
    assert 0 < int(published) < checked
    assert f"({file.path} was changed while it was being sent) and are kept in {left}" in said
    lines = checked + name.endswith("csv")
    assert f"give {file.path} again" in said
    assert f"its first {lines} lines keep their identities" in said
    for step in order.split(", "):
        if step == "kept":
            assert restaurant.waiter("--orders", str(left)).returncode == 0
        else:
            assert f"the first {lines} lines of {file.path} were being sent before, and keep" in file.give()
    file.give()
    each_once(restaurant, file.count)


def test_a_file_that_grows_twice(restaurant: Restaurant) -> None:
    """The second time while the grown file is being sent."""
    file = File(restaurant)
    file.start_and_grow()
    file.start_and_grow()
    file.give()
    for left in kept(restaurant, count=2):
        assert restaurant.waiter("--orders", str(left)).returncode == 0
    file.give()
    each_once(restaurant, LINES + 2 * ADDED)


def test_the_waiter_is_killed_while_the_file_grows(restaurant: Restaurant) -> None:
    """It leaves nothing but its note, by which the grown file is known again."""
    file = File(restaurant)
    waiter = file.start()
    file.add()
    assert waiter.stop(signal.SIGKILL) == -signal.SIGKILL
    assert len(notes(restaurant)) == 1
    file.give()
    each_once(restaurant, file.count)


def test_a_file_that_was_sent_whole_is_not_known_by_its_first_lines(restaurant: Restaurant) -> None:
    """Another file that begins like it is another file, also where the first one had grown before it was sent whole."""
    file = File(restaurant)
    file.start_and_grow()
    file.give()
    each_once(restaurant, file.count)
    file.add()
    assert "were being sent before" not in file.give()
    assert len(recorded(restaurant)) == (LINES + ADDED) + (LINES + 2 * ADDED)


def test_a_last_line_that_was_half_written_is_no_order(restaurant: Restaurant) -> None:
    """A row that ends where the file did is a valid one of another table; it is sent once it is complete."""
    file = File(restaurant, "orders.csv", 2_000)
    with file.path.open("a") as more:
        more.write("number 2000,1")
    waiter = file.start()
    with file.path.open("a") as more:
        more.write("7\n")
    assert go_on(waiter) == 1
    assert restaurant.waiter("--orders", str(kept(restaurant)[0])).returncode == 0
    file.give()
    each_once(restaurant, 2_001)
    assert [row[7] for row in restaurant.rows() if row[6] == "number 2000"] == [17]


def test_a_file_that_is_rewritten_while_it_is_sent(restaurant: Restaurant) -> None:
    """No line goes under the identity of another; restored and given again, what was sent is recorded once."""
    file = File(restaurant)
    content = file.path.read_bytes()
    waiter = file.start()
    file.path.write_bytes(content.replace(b"number", b"nombre"))
    assert go_on(waiter) == 1
    assert "cannot be kept" in waiter.errors()
    assert kept(restaurant, count=0) == []
    file.path.write_bytes(content)
    file.give()
    each_once(restaurant, LINES)


def test_a_file_is_another_one_when_it_has_been_sent_in_part(restaurant: Restaurant) -> None:
    """As `sed -i` makes one: nothing is lost, and nobody is told to give lines again that would be others."""
    file = File(restaurant)
    content = file.path.read_bytes()
    waiter = file.start()
    file.path.rename(file.path.with_suffix(".old"))
    file.path.write_bytes(content.replace(b"number", b"nombre"))
    assert go_on(waiter) == 1
    (left,) = kept(restaurant)
    said = waiter.errors()
    assert f"are kept in {left}; when the cause is mended, run: waiter --orders {left}\n" in said
    assert f"{file.path} no longer holds what was checked: send what is kept, and not this file; as it is now" in said
    assert f"give {file.path} again" not in said
    again = restaurant.waiter("--orders", str(left))
    assert again.returncode == 0
    each_once(restaurant, LINES)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_whose_name_is_gone_is_sent_to_its_end(restaurant: Restaurant, how: str) -> None:
    """One in its place that begins with its lines is said to be there, and those lines keep their identities."""
    file = File(restaurant)
    waiter = file.start()
    if how == "deleted":
        file.path.unlink()
        assert go_on(waiter) == 0
        assert notes(restaurant) == []
    else:
        file.path.rename(file.path.with_suffix(".old"))
        file.path.write_bytes(file.path.with_suffix(".old").read_bytes())
        file.add()
        assert go_on(waiter) == 1
        assert "was changed while it was being sent" in waiter.errors()
        file.give()
    each_once(restaurant, file.count)


def test_two_files_of_one_batch_lose_no_lines(restaurant: Restaurant) -> None:
    """Equal lines of two files are two orders, and the same file with the same batch is recorded once."""
    first = restaurant.orders_file("first.jsonl", *(line_of(number) for number in (0, 1)))
    second = restaurant.orders_file("second.jsonl", *(line_of(number) for number in (0, 2, 3)))
    for path in (first, second, first):
        assert restaurant.waiter("--orders", str(path), "--batch", "evening").returncode == 0
    assert restaurant.waiter("--orders", str(first)).returncode == 0
    assert sorted(recorded(restaurant)) == [f"number {number}" for number in (0, 0, 0, 1, 1, 2, 3)]


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("how", ["time-out", "SIGINT", "SIGTERM"])
def test_an_order_that_is_not_acknowledged_is_kept_and_named(
    muted: Proxy, unheard: Restaurant, how: str, version: str
) -> None:
    """It is in the topic, and only its acknowledgement is lost: that very order sent again is recorded once."""
    command = ("-m", "producer.waiter", "number 0", "1", "--schema-version", version)
    with muted.quiet():
        waiter = unheard.start_program("waiter", *command, env={"DELIVERY_TIMEOUT": "2" if how == "time-out" else "60"})
        assert muted.has_published.wait(30)
        if how != "time-out":
            waiter.process.send_signal(getattr(signal, how))
        assert waiter.process.wait(30) == 1
    (left,) = kept(unheard)
    assert waiter.lines() == []
    again = f"waiter --orders {left}" + (" --schema-version 1" if version == "1" else "")
    assert f"run: {again}" in waiter.errors()
    assert ("may be recorded twice" if version == "1" else "would be another order") in waiter.errors()
    for _ in range(2):
        assert unheard.waiter(*again.split()[1:]).returncode == 0
    assert recorded(unheard) == ["number 0"] * (3 if version == "1" else 1)


@pytest.mark.parametrize("what", ["open to all", "a file", "a link to nothing", "gone, and the one above, too"])
def test_an_order_that_is_under_way_when_nothing_can_be_kept_any_more(
    muted: Proxy, unheard: Restaurant, what: str
) -> None:
    """Whatever has become of DATA_DIR, its line is said, and that line is the very order."""
    above = unheard.directory / "above"
    data = above / "data"
    data.mkdir(parents=True)
    environ = {"DELIVERY_TIMEOUT": "2", "DATA_DIR": str(data)}
    with muted.quiet():
        waiter = unheard.start_program("waiter", "-m", "producer.waiter", "number 0", "1", env=environ)
        assert muted.has_published.wait(30)
        if what == "open to all":
            data.chmod(0o777)
        else:
            data.rmdir()
        if what == "a file":
            data.touch()
        elif what == "a link to nothing":
            data.symlink_to("nowhere")
        elif what.startswith("gone"):
            above.rmdir()
            above.touch()
        assert waiter.process.wait(30) == 1
    said = waiter.errors()
    assert "the order may have arrived all the same, and cannot be kept, as " in said
    assert "set DATA_DIR to a directory that can be written, and run: waiter --orders FILE; ordering it anew" in said
    (line,) = re.findall(r"save the line (\{.*\}) as a file that ends in .jsonl", said)
    for _ in range(2):
        assert unheard.waiter("--orders", str(unheard.orders_file("saved.jsonl", line))).returncode == 0
    assert recorded(unheard) == ["number 0"]


def test_an_order_that_was_not_handed_over_is_not_kept(restaurant: Restaurant) -> None:
    """Nothing of it can arrive."""
    nobody = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "STARTUP_TIMEOUT": "1", "REQUEST_TIMEOUT": "1"}
    assert restaurant.waiter("number 0", "1", env=nobody).returncode == 2
    assert restaurant.waiter("number 0", "0").returncode == 2
    assert not restaurant.data.exists()


def fail(muted: Proxy, unheard: Restaurant, path: Path) -> Path:
    """Send a file whose acknowledgements are lost; return the file of what was not acknowledged."""
    before = {*unheard.data.glob("undelivered-*.jsonl")}
    with muted.quiet():
        assert unheard.waiter("--orders", str(path), env={"DELIVERY_TIMEOUT": "2"}).returncode == 1
    (left,) = {*unheard.data.glob("undelivered-*.jsonl")} - before
    return left


@pytest.mark.parametrize("name", ["monday.jsonl", "tuesday.jsonl"])
def test_another_file_that_begins_like_one_whose_kept_orders_were_sent(
    muted: Proxy, unheard: Restaurant, name: str
) -> None:
    """Each of its lines is an order of its own, whether it has the path of that one or another."""
    first = File(unheard, "monday.jsonl", 1)
    assert unheard.waiter("--orders", str(fail(muted, unheard, first.path))).returncode == 0
    assert notes(unheard) == []
    assert "were being sent before" not in File(unheard, name, 2).give()
    assert sorted(recorded(unheard)) == ["number 0", "number 0", "number 1"]


def test_what_was_kept_of_what_was_kept_completes_the_file(muted: Proxy, unheard: Restaurant) -> None:
    """However often the broker goes away, and wherever such a file has been moved to."""
    first = File(unheard, "monday.jsonl", 3)
    left = fail(muted, unheard, first.path)
    for number in range(2):
        moved = left.rename(unheard.directory / f"moved-{number}.jsonl")
        left = fail(muted, unheard, moved)
    assert unheard.waiter("--orders", str(left)).returncode == 0
    assert notes(unheard) == []
    File(unheard, "tuesday.jsonl", 4).give()
    assert sorted(recorded(unheard)) == sorted([f"number {number}" for number in (*range(3), *range(4))])


def test_a_killed_waiter_leaves_nothing_behind_once_the_file_was_given_again(restaurant: Restaurant) -> None:
    """A file that begins like it is another one then."""
    first = File(restaurant, "monday.jsonl")
    assert first.start().stop(signal.SIGKILL) == -signal.SIGKILL
    first.give()
    assert notes(restaurant) == []
    assert "were being sent before" not in File(restaurant, "tuesday.jsonl", LINES + 1).give()
    assert len(recorded(restaurant)) == LINES + LINES + 1


@pytest.mark.parametrize("order", ["kept, grown", "grown, kept", "grown"])
def test_a_file_that_is_replaced_after_it_has_failed(muted: Proxy, unheard: Restaurant, order: str) -> None:
    """By a longer one that begins with it, as an editor saves: it is that file, although it is another inode."""
    file = File(unheard, lines=2)
    left = fail(muted, unheard, file.path)
    copy = file.path.with_suffix(".new")
    copy.write_bytes(file.path.read_bytes())
    copy.replace(file.path)
    file.add(2)
    for step in order.split(", "):
        if step == "kept":
            assert unheard.waiter("--orders", str(left)).returncode == 0
        else:
            assert f"the first 2 lines of {file.path} were being sent before, and keep" in file.give()
    each_once(unheard, 4)


def test_a_copy_that_goes_on_is_refused_until_it_is_said_what_it_is(muted: Proxy, unheard: Restaurant) -> None:
    """It may be the file, moved, or another one: neither is guessed."""
    file = File(unheard, lines=2)
    left = fail(muted, unheard, file.path)
    copy = File(unheard, "copy.jsonl", 3)
    refused = unheard.waiter("--orders", str(copy.path))
    assert refused.returncode == 2
    assert f"{copy.path} begins with all that {file.path} had, which was not sent whole; nothing was" in refused.stderr
    assert f"if it is that file, give it as {file.path}; if all of its lines are others, add" in refused.stderr
    copy.give("--batch", "copy")
    copy.path.replace(file.path)
    file.give()
    assert unheard.waiter("--orders", str(left)).returncode == 0
    assert sorted(recorded(unheard)) == sorted([f"number {number}" for number in range(3)] * 2)


def test_a_copy_that_is_equal_is_the_file_itself(muted: Proxy, unheard: Restaurant) -> None:
    """Sent from elsewhere, it completes it."""
    file = File(unheard, lines=2)
    fail(muted, unheard, file.path)
    File(unheard, "copy.jsonl", 2).give()
    assert notes(unheard) == []
    each_once(unheard, 2)


class Proxy(socketserver.ThreadingTCPServer):
    """Stands between the clients and a broker; while it is quiet, who has published something hears nothing more."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), _Connection)
        self.port = self.server_address[1]
        self.broker = 0
        self.is_quiet = False
        self.has_published = threading.Event()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Keep the broker's answers to publications back."""
        self.has_published.clear()
        self.is_quiet = True
        yield
        self.is_quiet = False


class _Connection(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        """Pass requests on: each is four bytes of length, then so many more, of which two are its kind."""
        self._is_quiet = False
        with socket.create_connection(("127.0.0.1", self.server.broker)) as broker, suppress(OSError):
            threading.Thread(target=self._answer, args=(broker,), daemon=True).start()
            requests = self.request.makefile("rb")
            while length := requests.read(4):
                request = requests.read(int.from_bytes(length))
                is_publication = request[:2] == b"\0\0"
                self._is_quiet |= is_publication and self.server.is_quiet
                broker.sendall(length + request)
                if self._is_quiet:
                    self.server.has_published.set()

    def _answer(self, broker: socket.socket) -> None:
        with suppress(OSError):
            while answer := broker.recv(65_536):
                if not self._is_quiet:
                    self.request.sendall(answer)


@pytest.fixture(scope="module")
def muted() -> Iterator[Proxy]:
    """A proxy for a broker that is not there yet."""
    with Proxy() as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


@pytest.fixture(scope="module")
def stack(muted: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Servers whose broker sends its clients to the proxy."""
    properties = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{muted.port}"}
    stack = LocalStack(tmp_path_factory.mktemp("stack"), properties=properties)
    muted.broker = stack.kafka.port
    with running(stack):
        yield stack


@pytest.fixture
def unheard(stack: LocalStack, tmp_path: Path) -> Iterator[Restaurant]:
    """A restaurant on these servers."""
    restaurant = Restaurant(tmp_path, stack.bootstrap_servers, stack.registry_url)
    assert restaurant.register().returncode == 0
    restaurant.make_topic()
    yield restaurant
    restaurant.close()
