"""A producer whose servers go away, on those inside this process: nothing is lost, and nobody is asked in vain."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from confluent_kafka.schema_registry import Schema

from contract.errors import NotDelivered
from contract.order import OrderV2
from contract.subjects import Subject
from producer.publishing import RecordProducer
from runtime.embedded import embedded_servers
from runtime.settings import Settings

ORDERS = [OrderV2("napoli", number, f"id-{number}") for number in range(1, 6)]


@pytest.mark.parametrize("bulk", [True, False])
def test_what_is_not_acknowledged_is_given_back_without_asking_the_registry(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, *, bulk: bool
) -> None:
    """Broker and registry are away together, as when it is the network: each record comes back as it was."""

    def asked(*_: object) -> None:
        raise AssertionError("the registry is gone")

    context = embedded_servers(Settings(delivery_timeout=1.0))
    servers = context.__enter__()
    for version in subject.released:
        servers.registry.register_schema(subject.name, Schema(version.text, "AVRO"))
    producer = RecordProducer(servers, subject, OrderV2, bulk=bulk)
    monkeypatch.setattr(type(servers.registry), "get_schema", asked)
    context.__exit__(None, None, None)
    del context, servers
    gc.collect()  # with the last reference the broker goes
    given_back: list[tuple[OrderV2, str]] = []
    assert producer.publish_all([ORDERS[:2], ORDERS[2:]], lambda *one: given_back.append(one)) == 0
    assert [order for order, _ in given_back] == ORDERS
    assert {"Local: Message timed out"} >= {reason for _, reason in given_back}
    if not bulk:
        with pytest.raises(NotDelivered, match=f"not delivered to {subject.topic}"):
            producer.publish(ORDERS[0])


def test_one_record_for_which_the_client_has_no_room_is_not_delivered(subject: Subject) -> None:
    """As when others have filled its queue; what is in there is delivered nevertheless."""
    with embedded_servers(Settings(kafka={"queue.buffering.max.messages": "1", "linger.ms": "300"})) as servers:
        for version in subject.released:
            servers.registry.register_schema(subject.name, Schema(version.text, "AVRO"))
        producer = RecordProducer(servers, subject, OrderV2)

        def chunks() -> Iterator[list[OrderV2]]:
            yield ORDERS[:1]
            with pytest.raises(NotDelivered, match=f"not delivered to {subject.topic}: .*Queue full"):
                producer.publish(ORDERS[1])
            assert producer.publish(ORDERS[0]).offset == 1  # behind the one that filled it

        assert producer.publish_all(chunks(), lambda _, reason: pytest.fail(reason)) == 1


def test_a_producer_for_bulk_says_so_when_it_is_asked_for_places(subject: Subject) -> None:
    """Rather than never calling back."""
    with embedded_servers(Settings()) as servers:
        for version in subject.released:
            servers.registry.register_schema(subject.name, Schema(version.text, "AVRO"))
        producer = RecordProducer(servers, subject, OrderV2, bulk=True)
        with pytest.raises(ValueError, match="bulk"):
            producer.publish(ORDERS[0])
        assert producer.publish_all([ORDERS], lambda _, reason: pytest.fail(reason)) == len(ORDERS)
