"""Whether a topic is still the one that it was: asked when that is in doubt, and believed only when it is certain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from contract.errors import TopicError, Unavailable
from runtime.settings import Settings
from runtime.topics import Servers, Topic, TopicWatch

OURS = Topic("pizza-order", "id-1", "cluster-1", 1)
LINE = "[thrd:main]: Topic pizza-order changed id from {} to {}"


@dataclass
class Brokers:
    """What brokers answer, one question after the other; None for none yet."""

    answers: list[Mapping[str, Topic] | None] = field(default_factory=list)
    asked: int = 0

    def watch(self) -> TopicWatch:
        """Watch our topic with these."""
        registry: Any = None

        def ask(names: object) -> Any:
            assert names == ["pizza-order"]
            self.asked += 1
            return lambda _seconds: self.answers.pop(0)

        return TopicWatch(Servers(Settings(), registry, lambda *_: [], lambda _: ask), [OURS])


def ask(watch: TopicWatch) -> None:
    """Ask without waiting."""
    watch.ask(0, lambda topic, _: f"leave {topic.name}")


def test_what_is_certain_is_not_asked_again() -> None:
    """Until something speaks against it; more partitions do not."""
    brokers = Brokers([{"pizza-order": OURS}, {"pizza-order": Topic("pizza-order", "id-1", "cluster-1", 7)}])
    watch = brokers.watch()
    for asked in (1, 2):
        ask(watch)
        ask(watch)
        assert (watch.is_certain, brokers.asked) == (True, asked)
        watch.doubt()
        assert not watch.is_certain


@pytest.mark.parametrize("now", [Topic("pizza-order", "id-2", "cluster-1", 1), Topic("pizza-order", "id-1", "c-2", 1)])
def test_another_topic_or_cluster_is_named_with_what_to_do(now: Topic) -> None:
    with pytest.raises(TopicError) as error:
        ask(Brokers([{"pizza-order": now}]).watch())
    was = "pizza-order (id-1) of cluster cluster-1 is another topic now"
    assert str(error.value).startswith(f"{was}, pizza-order ({now.id}) of cluster {now.cluster_id}, ")
    assert str(error.value).endswith("; leave pizza-order")


def test_an_answer_that_has_not_come_is_waited_for_and_not_asked_for_again() -> None:
    brokers = Brokers([None, {"pizza-order": OURS}])
    watch = brokers.watch()
    with pytest.raises(Unavailable, match="has not answered yet"):
        ask(watch)
    ask(watch)
    assert (watch.is_certain, brokers.asked) == (True, 1)


def test_what_was_asked_before_a_doubt_does_not_settle_it() -> None:
    brokers = Brokers([None, {"pizza-order": OURS}])
    watch = brokers.watch()
    with pytest.raises(Unavailable):
        ask(watch)
    watch.doubt()
    ask(watch)
    assert brokers.asked == 2


def test_a_topic_that_no_broker_knows_now_is_no_other_topic() -> None:
    """As one that has just come up may say; what is really gone the client reports."""
    watch = Brokers([{}, {"pizza-order": OURS}]).watch()
    with pytest.raises(Unavailable, match="not every broker knows the topic pizza-order"):
        ask(watch)
    ask(watch)


def test_a_line_of_the_client_puts_in_doubt_what_has_another_id() -> None:
    """Not the first id that it learns, and not another topic whose name begins or ends like ours."""
    watch = Brokers([{"pizza-order": OURS}]).watch()
    ask(watch)
    for line in (
        LINE.format("AAAAAAAAAAAAAAAAAAAAAA", "id-1"),
        LINE.replace("order", "order.cook.replays").format("a", "b"),
        LINE.replace("pizza", "my-pizza").format("a", "b"),
        "[thrd:main]: Topic pizza-order [0] Leader 1 Epoch 0",
    ):
        watch.hear(line)
        assert watch.is_certain
    watch.hear(LINE.format("id-1", "id-2"))
    assert not watch.is_certain


def test_a_broker_that_still_names_the_old_topic_is_not_believed() -> None:
    """The client knows better: it has heard of the new one."""
    watch = Brokers([{"pizza-order": OURS}, {"pizza-order": OURS}]).watch()
    watch.hear(LINE.format("id-1", "id-2"))
    with pytest.raises(Unavailable, match="or which one it is"):
        ask(watch)
    watch.hear(LINE.format("id-2", "id-1"))
    ask(watch)
    assert watch.is_certain
