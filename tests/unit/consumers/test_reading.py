"""Messages become batches: what cannot be read goes to the letters, and a row of it ends the consumer, nothing less."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, Message

from consumers.batches import Batch, Polled
from contract.errors import Reason, Rejected, Unavailable, UserError
from contract.order import OrderV1
from tests.unit.consumers.conftest import BAD, Reading


def test_what_is_plainly_valid_is_decoded_at_once(reading: Reading) -> None:
    """Once its writer is known, there is nothing left to read."""
    messages = reading.poll(reading.good, reading.good).fetched
    first = reading.take(messages)
    assert not isinstance(first, Batch)
    assert reading.read(first).next_offsets == {0: 2}
    for some in (messages, messages[:1]):
        again = reading.take(some)
        assert isinstance(again, Batch)
        assert (again.values, again.next_offsets) == ([OrderV1("napoli", 3)] * len(some), {0: len(some)})
    assert not isinstance(reading.take(messages, replays=True), Batch)  # they have been elsewhere first


def test_errors_among_messages_are_neither_records_nor_letters(reading: Reading) -> None:
    """Wherever they are: librdkafka gives them as messages whose value is a sentence, at an offset of their own."""
    messages = reading.poll(reading.good, BAD, reading.good).fetched
    reading.read(reading.take(messages))
    error = Message(
        topic="pizza-order",
        partition=0,
        offset=-1001,
        value=b"Broker: no",
        error=KafkaError(KafkaError.NETWORK_EXCEPTION),
    )
    for mixed in ([error, *messages], [messages[0], error, *messages[1:]], [*messages[:2], error, messages[2], error]):
        batch = reading.read(reading.take(mixed))
        assert (batch.values, batch.next_offsets) == ([OrderV1("napoli", 3)] * 2, {0: 3})
    assert [message.offset() for message, _ in reading.letters.written] == [1] * 4
    assert reading.take([error, error]).fetched == reading.take([error]).fetched == []


def test_what_is_good_before_a_row_is_handled_first(reading: Reading) -> None:
    """The offsets go up to the row, which stays unread; the failure is for when the good ones are handled."""
    polled = reading.poll(BAD, reading.good, BAD, BAD, BAD, reading.good)
    batch = reading.read(polled)
    assert batch.values == [OrderV1("napoli", 3)]
    assert batch.next_offsets == {0: 2}
    assert [message.offset() for message, _ in reading.letters.written] == [0]
    with pytest.raises(UserError, match="3 messages in a row could not be read"):
        reading.read(Polled(batch.source, polled.fetched[len(batch.fetched) :]))


def test_a_row_that_became_no_letters_is_forgotten(reading: Reading) -> None:
    """Its work may be dropped, when another has the partition by then: one more bad message is one."""
    reading.read(reading.poll(reading.good, BAD, BAD, BAD))
    batch = reading.read(reading.poll(BAD, start=10))
    assert (batch.values, batch.next_offsets) == ([], {0: 11})


def test_a_row_without_anything_good_ends_at_once(reading: Reading) -> None:
    """Over several polls, too; and it is in no letter."""
    reading.read(reading.poll(BAD, BAD))
    with pytest.raises(UserError, match="3 messages in a row"):
        reading.read(reading.poll(BAD, start=2))
    assert len(reading.letters.written) == 2


def test_what_is_decoded_at_once_ends_a_row(reading: Reading) -> None:
    """As what is read does."""
    reading.read(reading.poll(reading.good, BAD, BAD))
    assert isinstance(reading.take(reading.poll(reading.good, start=3).fetched), Batch)
    batch = reading.read(reading.poll(BAD, start=4))
    assert (batch.values, batch.next_offsets) == ([], {0: 5})


def test_a_row_counts_once_however_often_its_letters_could_not_be_written(reading: Reading) -> None:
    """What is read anew after that is judged anew."""
    reading.letters.refusals = 2
    polled = reading.poll(BAD, BAD)
    for _ in range(2):
        with pytest.raises(Unavailable):
            reading.read(polled)
    assert reading.read(polled).next_offsets == {0: 2}
    with pytest.raises(UserError, match="3 messages in a row"):
        reading.read(reading.poll(BAD, start=2))


def test_what_is_replayed_makes_no_row(reading: Reading) -> None:
    """It was bad before, whatever the servers are; each becomes a letter again."""
    headers = [("replay.topic", b"t"), ("replay.partition", b"0"), ("replay.offset", b"7"), ("replay.timestamp", b"0")]
    reading.read(reading.poll(*[BAD] * 5, replays=True, headers=headers))
    assert len(reading.letters.written) == 5


@pytest.mark.parametrize("offset", [None, b"x", b"-1", b"100000000000000000000"])
def test_a_replay_without_a_place_is_a_letter_and_disturbs_no_other(reading: Reading, offset: bytes | None) -> None:
    """Also when the handler refuses the one beside it."""
    headers = {"replay.topic": b"t", "replay.partition": b"0", "replay.offset": b"7", "replay.timestamp": b"0"}
    polled = reading.poll(reading.good, replays=True, headers=list(headers.items()))
    headers |= {"replay.offset": offset} if offset is not None else {}
    wrong = [pair for pair in headers.items() if offset is not None or pair[0] != "replay.offset"]
    other = reading.poll(reading.good, start=1, replays=True, headers=wrong)
    batch = reading.read(Polled(polled.source, [*polled.fetched, *other.fetched]))
    assert [(one.partition, one.offset) for one in batch.records] == [(0, 7)]
    left = reading.reader.refuse(batch, Rejected({(0, 7): "no such table"}))
    assert (left.values, left.messages) == ([], [])
    assert [why.reason for _, why in reading.letters.written] == [Reason.MALFORMED, Reason.HANDLER]


def test_refused_records_are_taken_out_one_by_one(reading: Reading) -> None:
    """Each refusal leaves the rest with its message; a refusal of what was not given is a defect."""
    batch = reading.read(reading.poll(*[reading.good] * 3))
    batch = reading.reader.refuse(batch, Rejected({(0, 1): "no"}))
    batch = reading.reader.refuse(batch, Rejected({(0, 2): "no"}))
    assert [one.offset for one in batch.records] == [0]
    assert batch.next_offsets == {0: 3}
    assert [message.offset() for message, _ in reading.letters.written] == [1, 2]
    with pytest.raises(Rejected):
        reading.reader.refuse(batch, Rejected({(0, 1): "no"}))
