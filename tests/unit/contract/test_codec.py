"""The wire format: the same bytes as Confluent's serializer, and a typed error for all that cannot be read."""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import Metadata, MetadataProperties, MetadataTags, Schema, SchemaReference
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.common.schema_registry_client import SchemaVersion
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import Deserializer, MessageField, SerializationContext, Serializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.binary import decode, encode
from contract.codec import RecordDeserializer, RecordSerializer
from contract.errors import NotRegistered, Reason, Refused, Unavailable, Unreadable
from contract.golden import read_golden
from contract.order import OrderV1, OrderV2
from contract.records import Record, build
from contract.subjects import Subject
from tests.unit.conftest import CountingRegistry
from tests.unit.contract.test_registry import refer_to_notes

TOPIC = "pizza-order"
CONTEXT = SerializationContext(TOPIC, MessageField.VALUE)
SUBJECT = f"{TOPIC}-value"
VERSIONS: list[type[Record]] = [OrderV1, OrderV2]
ID = {OrderV1: 2, OrderV2: 3}  # as the fixture registers them

V1_BYTES = b"\x00\x00\x00\x00\x02" + b"\x14margherita" + b"\x22"  # 10 and 17, zigzag
V2_BYTES = b"\x00\x00\x00\x00\x03" + b"\x14margherita" + b"\x22" + b"\x0ax-001"


def context(headers: Any = None, topic: str = TOPIC, field: MessageField = MessageField.VALUE) -> SerializationContext:
    """Give the context in which a message is read."""
    return SerializationContext(topic, field, headers)


def avro(schema: Any, value: object) -> bytes:
    """Write Avro binary without any of this project's checks."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), value)
    return buffer.getvalue()


def framed(schema_id: int, avro_bytes: bytes) -> bytes:
    """Put the wire format's five bytes before Avro binary."""
    return b"\x00" + schema_id.to_bytes(4, "big") + avro_bytes


def unreadable(
    registry: CountingRegistry, data: bytes | None, ctx: SerializationContext = CONTEXT, reader: type[Record] = OrderV1
) -> Unreadable:
    """Give the error with which a message is refused."""
    with pytest.raises(Unreadable) as refused:
        RecordDeserializer(reader, registry)(data, ctx)
    return refused.value


Readers = dict[type[Record], RecordDeserializer[Any]]


@pytest.fixture
def readers(registered: CountingRegistry) -> Readers:
    """A deserializer of each version, made once for many messages."""
    return {record: RecordDeserializer(record, registered) for record in VERSIONS}


class TestBytes:
    """What is written."""

    def test_magic_byte_schema_id_and_avro(self, registered: CountingRegistry) -> None:
        """The bytes, written out."""
        assert RecordSerializer(OrderV1, registered)(OrderV1("margherita", 17), CONTEXT) == V1_BYTES
        assert RecordSerializer(OrderV2, registered)(OrderV2("margherita", 17, "x-001"), CONTEXT) == V2_BYTES

    @pytest.mark.parametrize("record", VERSIONS)
    def test_golden_bytes(self, subject: Subject, record: type[Record]) -> None:
        """Every released version is written as it was when it was released, and read back."""
        goldens = read_golden(subject.version(record.VERSION))
        assert goldens
        for golden in goldens:
            value = build(record, golden.value)
            assert encode(value) == golden.avro
            assert decode(golden.avro, record, record.SCHEMA) == value

    @pytest.mark.parametrize("record", VERSIONS)
    def test_equal_to_confluents_serializer(
        self, registered: CountingRegistry, subject: Subject, record: type[Record]
    ) -> None:
        """Confluent's AvroSerializer writes the same bytes, frame and all."""
        theirs = AvroSerializer(
            registered,
            record.SCHEMA,
            conf={"auto.register.schemas": False, "subject.name.strategy.type": "TOPIC"},
        )
        ours = RecordSerializer(record, registered)
        for golden in read_golden(subject.version(record.VERSION)):
            data = theirs(golden.value, CONTEXT)
            assert data == ours(build(record, golden.value), CONTEXT)
            assert data == framed(ID[record], golden.avro)

    @pytest.mark.parametrize("record", VERSIONS)
    def test_confluents_deserializer_reads_ours(self, registered: CountingRegistry, record: type[Record]) -> None:
        order = build(record, {"pizza": "quattro formaggi", "table": 3})
        theirs = AvroDeserializer(registered, record.SCHEMA, conf={"subject.name.strategy.type": "TOPIC"})
        read = theirs(RecordSerializer(record, registered)(order, CONTEXT), CONTEXT)
        assert build(record, read) == order

    @pytest.mark.parametrize("record", VERSIONS)
    def test_we_read_confluents(self, registered: CountingRegistry, record: type[Record]) -> None:
        order = {"pizza": "quattro formaggi", "table": 3, "order_id": "x"}
        theirs = AvroSerializer(
            registered,
            record.SCHEMA,
            conf={"auto.register.schemas": False, "subject.name.strategy.type": "TOPIC"},
        )
        fields = {name: order[name] for name in record.__struct_fields__}
        assert RecordDeserializer(record, registered)(theirs(fields, CONTEXT), CONTEXT) == build(record, fields)

    def test_they_are_confluents_interfaces(self, registered: CountingRegistry) -> None:
        """So they fit SerializingProducer and DeserializingConsumer."""
        assert isinstance(RecordSerializer(OrderV1, registered), Serializer)
        assert isinstance(RecordDeserializer(OrderV1, registered), Deserializer)

    def test_none_is_written_as_none(self, registered: CountingRegistry) -> None:
        assert RecordSerializer(OrderV1, registered)(None, CONTEXT) is None

    @pytest.mark.parametrize(
        ("order", "sentence"),
        [
            (OrderV1("", 1), "pizza is '', expected str of length >= 1"),
            (OrderV1("a", 2**40), f"table is {2**40}, expected int <= 2147483647"),
            (OrderV1("\ud800", 1), r"pizza is '\ud800', which holds half of a surrogate pair: no text"),
        ],
    )
    def test_a_record_that_breaks_its_contract_is_not_written(
        self, registered: CountingRegistry, order: OrderV1, sentence: str
    ) -> None:
        with pytest.raises(Refused) as refused:
            RecordSerializer(OrderV1, registered)(order, CONTEXT)
        assert str(refused.value) == sentence


class TestVersions:
    """A reader has its own version, whichever wrote."""

    def test_an_older_reader_reads_a_newer_writer(self, registered: CountingRegistry) -> None:
        assert RecordDeserializer(OrderV1, registered)(V2_BYTES, CONTEXT) == OrderV1("margherita", 17)

    def test_a_newer_reader_reads_an_older_writer(self, registered: CountingRegistry) -> None:
        assert RecordDeserializer(OrderV2, registered)(V1_BYTES, CONTEXT) == OrderV2("margherita", 17, "")

    def test_both_by_turns(self, registered: CountingRegistry) -> None:
        read = RecordDeserializer(OrderV2, registered)
        assert [read(data, CONTEXT).order_id for data in (V1_BYTES, V2_BYTES, V1_BYTES)] == ["", "x-001", ""]

    @settings(derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        pizza=st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
        table=st.integers(1, 2**31 - 1),
        order_id=st.text(st.characters(codec="utf-8"), max_size=64),
        writer=st.sampled_from(VERSIONS),
        reader=st.sampled_from(VERSIONS),
    )
    def test_any_order_survives(
        self,
        registered: CountingRegistry,
        pizza: str,
        table: int,
        order_id: str,
        writer: type[Record],
        reader: type[Record],
    ) -> None:
        """What any version wrote any version reads: less where the reader has less, defaults where the writer had."""
        values = {"pizza": pizza, "table": table, "order_id": order_id}
        written = build(writer, {name: values[name] for name in writer.__struct_fields__})
        values["order_id"] = order_id if writer is OrderV2 else ""
        data = RecordSerializer(writer, registered)(written, CONTEXT)
        read = RecordDeserializer(reader, registered)(data, CONTEXT)
        assert read == build(reader, {name: values[name] for name in reader.__struct_fields__})


class TestLookups:
    """The registry is asked once for each id, and never changed."""

    def test_the_serializer_looks_its_id_up_once_a_subject(self, registered: CountingRegistry) -> None:
        serialize = RecordSerializer(OrderV1, registered)
        for table in range(1, 50):
            serialize(OrderV1("a", table), CONTEXT)
        assert registered.calls == [("lookup_schema", "pizza-order-value")]

    def test_the_deserializer_looks_each_id_up_once(self, registered: CountingRegistry) -> None:
        read = RecordDeserializer(OrderV1, registered)
        for _ in range(50):
            read(V1_BYTES, CONTEXT)
            read(V2_BYTES, CONTEXT)
        assert registered.counts == {"get_schema": 2, "get_schema_versions": 2}

    def test_nothing_registers_by_itself(self, registry: CountingRegistry) -> None:
        with pytest.raises(NotRegistered, match=r"python scripts/register_schema\.py"):
            RecordSerializer(OrderV1, registry)(OrderV1("a", 1), CONTEXT)
        assert registry.counts == {"lookup_schema": 1}
        assert registry.get_subjects() == []

    def test_the_subject_is_of_topic_and_field(self, registered: CountingRegistry) -> None:
        """The topic name strategy."""
        with pytest.raises(NotRegistered, match="version 1 of pizza-order-key"):
            RecordSerializer(OrderV1, registered)(OrderV1("a", 1), context(field=MessageField.KEY))
        with pytest.raises(NotRegistered, match="version 1 of other-value"):
            RecordSerializer(OrderV1, registered)(OrderV1("a", 1), context(topic="other"))

    def test_without_a_context_there_is_no_subject(self, registered: CountingRegistry) -> None:
        with pytest.raises(TypeError, match="SerializationContext"):
            RecordSerializer(OrderV1, registered)(OrderV1("a", 1))

    @pytest.mark.parametrize("data", [V1_BYTES, framed(99, b"")])
    def test_a_registry_without_our_subject_is_not_the_messages_fault(
        self, registry: CountingRegistry, data: bytes
    ) -> None:
        """An emptied registry must not send a whole topic to the dead letters."""
        with pytest.raises(NotRegistered, match="does not hold version 1 of pizza-order-value"):
            RecordDeserializer(OrderV1, registry)(data, CONTEXT)

    def test_an_outage_is_not_remembered(self, registered: CountingRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same message is read once the registry answers again."""
        read = RecordDeserializer(OrderV1, registered)
        with monkeypatch.context() as outage:
            outage.setattr(registered, "get_schema", _no_answer)
            with pytest.raises(Unavailable):
                read(V1_BYTES, CONTEXT)
        assert read(V1_BYTES, CONTEXT) == OrderV1("margherita", 17)

    def test_a_schema_that_the_registry_cannot_even_look_up_here_is_foreign(
        self, registered: CountingRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Confluent's answers 422 for the text of a Protobuf schema, and for one that refers to others."""
        text = registered.register_schema("other-value", Schema('{"type":"int"}', "AVRO"))
        read = RecordDeserializer(OrderV1, registered)
        lookup = registered.lookup_schema

        def strict(subject: str, schema: Schema, *arguments: Any, **keywords: Any) -> Any:
            if schema.schema_str == '{"type":"int"}':
                raise SchemaRegistryError(422, 42201, "Invalid schema")
            return lookup(subject, schema, *arguments, **keywords)

        monkeypatch.setattr(registered, "lookup_schema", strict)
        with pytest.raises(Unreadable) as unreadable:
            read(framed(text, b"\x02"), CONTEXT)
        assert unreadable.value.reason is Reason.FOREIGN_SCHEMA

    def test_many_messages_of_an_unknown_id_are_one_question(self, registered: CountingRegistry) -> None:
        """Else a sender of nonsense would keep its readers from their work."""
        read = RecordDeserializer(OrderV1, registered)
        for _ in range(100):
            with pytest.raises(Unreadable, match="knows no schema of id 77"):
                read(framed(77, b""), CONTEXT)
        assert registered.counts == {"get_schema": 1, "lookup_schema": 1}

    def test_an_unknown_id_is_asked_for_again(
        self, registered: CountingRegistry, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may be registered a moment later, as when a consumer starts before a waiter of a newer version."""
        monkeypatch.setattr("contract.codec.ASK_AGAIN_SECONDS", 0.0)
        read = RecordDeserializer(OrderV1, registered)
        newer = subject.newest.text.replace('"restaurant"', '"restaurant","aliases":["Later"]')
        data = framed(4, V2_BYTES[5:])
        with pytest.raises(Unreadable):
            read(data, CONTEXT)
        assert registered.register_schema(subject.name, Schema(newer, "AVRO")) == 4
        assert read(data, CONTEXT) == OrderV1("margherita", 17)

    @pytest.mark.parametrize(
        "text",
        [
            '{"type": "recrd"}',
            "3",
            "{",
            '{"type": "record", "name": "Order", "fields": [{"name": "pizza", "type": "shop.Pizza"}]}',
        ],
        ids=["unknown", "number", "no JSON", "reference"],
    )
    def test_a_writers_schema_that_is_none_is_a_dead_letter(self, registered: CountingRegistry, text: str) -> None:
        """No later try would make it one."""
        schema_id = registered.register_schema("pizza-order-value", Schema(text, "AVRO"))
        error = unreadable(registered, framed(schema_id, b"\x02a\x02"))
        assert (error.reason, error.schema_id) == (Reason.NOT_READABLE, schema_id)
        assert str(error).startswith("what wrote it is no Avro schema that can be used: ")

    @pytest.mark.parametrize("kind", ["JSON", "PROTOBUF"])
    def test_a_writers_schema_of_another_type_is_a_dead_letter(self, registered: CountingRegistry, kind: str) -> None:
        schema_id = registered.register_schema("pizza-order-value", Schema(OrderV1.SCHEMA, kind))
        error = unreadable(registered, framed(schema_id, V1_BYTES[5:]))
        assert error.reason is Reason.NOT_READABLE
        assert f"its type is {kind}" in str(error)

    def test_many_messages_of_a_schema_that_cannot_be_used_are_one_question(self, registered: CountingRegistry) -> None:
        schema_id = registered.register_schema("pizza-order-value", Schema("{", "AVRO"))
        registered.calls.clear()
        read = RecordDeserializer(OrderV1, registered)
        for _ in range(100):
            with pytest.raises(Unreadable):
                read(framed(schema_id, b""), CONTEXT)
        assert registered.counts == {"get_schema": 1, "get_schema_versions": 1}

    @pytest.mark.parametrize(
        "type_",
        [
            {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 5},
            {"type": "bytes", "logicalType": "decimal"},
            {"type": "bytes", "logicalType": "decimal", "precision": "4"},
            {"type": "bytes", "logicalType": "timestamp-millis"},
            {"type": "bytes", "logicalType": 3},
        ],
    )
    @pytest.mark.parametrize("nested", [False, True])
    def test_an_invalid_logical_type_is_ignored(
        self, registered: CountingRegistry, subject: Subject, type_: Any, *, nested: bool
    ) -> None:
        """Its bytes are those of the underlying type (Avro specification, "Logical Types")."""
        schema = json.loads(subject.newest.text)
        type_ = {"type": "array", "items": ["null", type_]} if nested else type_
        schema["fields"].append({"name": "more", "type": type_})
        schema_id = registered.register_schema(subject.name, Schema(json.dumps(schema), "AVRO"))
        data = framed(schema_id, V2_BYTES[5:] + (b"\x02\x02\x04ab\0" if nested else b"\x04ab"))
        assert RecordDeserializer(OrderV2, registered)(data, CONTEXT) == OrderV2("margherita", 17, "x-001")


class TestWriters:
    """Whose id it is, is asked by the id; what a writer's schema refers to is fetched with it."""

    @pytest.mark.parametrize("record", VERSIONS)
    def test_the_same_text_under_another_id_is_read(self, registered: CountingRegistry, record: type[Record]) -> None:
        """As where it is registered with metadata, for a Java producer with `use.latest.version`."""
        metadata = Metadata(MetadataTags({"Order.pizza": ["PUBLIC"]}), MetadataProperties({"owner": "kitchen"}), None)
        schema = Schema(OrderV2.SCHEMA, "AVRO", metadata=metadata)
        data = framed(registered.register_schema(SUBJECT, schema), V2_BYTES[5:])
        read = RecordDeserializer(record, registered)
        order = read(data, CONTEXT)
        values = {"pizza": "margherita", "table": 17, "order_id": "x-001"}
        assert order == build(record, {name: values[name] for name in record.__struct_fields__})
        assert read.plainly([data], SUBJECT) == [order]

    @pytest.mark.parametrize("depth", [1, 2, 50])
    def test_a_writer_that_refers_to_other_subjects_is_read(
        self, registered: CountingRegistry, subject: Subject, depth: int
    ) -> None:
        schema_id = refer_to_notes(registered, subject, depth)
        read = RecordDeserializer(OrderV1, registered)
        for note in (b"\0", b"\x02\x04no"):
            assert read(framed(schema_id, V2_BYTES[5:] + note), CONTEXT) == OrderV1("margherita", 17)
        assert unreadable(registered, framed(schema_id, V1_BYTES[5:-1])).reason is Reason.TRUNCATED

    def test_references_are_fetched_once(
        self, registered: CountingRegistry, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        schema_id, asked = refer_to_notes(registered, subject, 2), list[str]()
        original = registered.get_version

        def counting(name: str, *arguments: Any, **keywords: Any) -> Any:
            asked.append(name)
            return original(name, *arguments, **keywords)

        read = RecordDeserializer(OrderV1, registered)
        monkeypatch.setattr(registered, "get_schema_versions", lambda *_, **__: [SchemaVersion(SUBJECT, 3)])
        monkeypatch.setattr(registered, "get_version", counting)
        for _ in range(50):
            read(framed(schema_id, V2_BYTES[5:] + b"\0"), CONTEXT)
        assert asked == ["note1-value", "note0-value"]

    @pytest.mark.parametrize("depth", [101, 300])
    def test_more_references_than_anybody_has_are_a_dead_letter(
        self, registered: CountingRegistry, subject: Subject, depth: int
    ) -> None:
        error = unreadable(registered, framed(refer_to_notes(registered, subject, depth), V2_BYTES[5:] + b"\0"))
        assert error.reason is Reason.NOT_READABLE
        assert "refers to more than 100 schemas" in str(error)

    @pytest.mark.parametrize(
        ("reference", "why"),
        [
            (
                SchemaReference("kitchen.Note", "gone-value", 1),
                "gone-value version 1, which the registry does not hold",
            ),
            (SchemaReference("kitchen.Note", None, None), "refers to None version None, which"),
            (SchemaReference("kitchen.Note", "another-value", 1), "unknown type `kitchen.Note`"),
            (SchemaReference("kitchen.Note", SUBJECT, 3), "unknown type `kitchen.Note`"),
        ],
        ids=["gone", "nothing", "another", "itself"],
    )
    def test_a_reference_that_leads_nowhere_is_a_dead_letter(
        self, registered: CountingRegistry, reference: SchemaReference, why: str
    ) -> None:
        """No later try would find it: a registry refuses to delete what is referred to."""
        schema = '{"type": "record", "name": "Order", "fields": [{"name": "note", "type": "kitchen.Note"}]}'
        error = unreadable(
            registered, framed(registered.register_schema(SUBJECT, Schema(schema, "AVRO", [reference])), b"")
        )
        assert error.reason is Reason.NOT_READABLE
        assert why in str(error)

    @pytest.mark.parametrize("record", VERSIONS)
    @pytest.mark.parametrize("form", ["dotted", "turned round", "spaced", "with other docs"])
    def test_a_writer_that_is_written_in_another_way_has_its_fast_way(
        self, registered: CountingRegistry, record: type[Record], form: str
    ) -> None:
        """A generated decoder rests on names and layout alone."""
        schema = json.loads(record.SCHEMA)
        if form == "dotted":
            schema["name"] = f"{schema.pop('namespace')}.{schema['name']}"
        if form == "turned round":
            schema = dict(reversed([*schema.items()]))
            schema["fields"] = [dict(reversed([*field.items()])) for field in schema["fields"]]
        if form == "with other docs":
            schema["fields"] = [
                field | {"doc": "x", "aliases": ["y"], "x": 1} for field in schema["fields"][:1]
            ] + schema["fields"][1:]
        text = json.dumps(schema, indent=2 if form == "spaced" else None)
        data = framed(
            registered.register_schema(SUBJECT, Schema(text, "AVRO")), (V1_BYTES if record is OrderV1 else V2_BYTES)[5:]
        )
        for reader in VERSIONS:
            read = RecordDeserializer(reader, registered)
            assert read.plainly([data], SUBJECT) == [None]  # nothing is known of the id yet
            assert read(data, CONTEXT) in read.plainly([data], SUBJECT)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"int"', '"long"'),
            ('"restaurant"', '"other"'),
            ('"pizza"', '"dish"'),
            ('"int"', '{"type":"int","logicalType":"date"}'),
        ],
    )
    def test_a_writer_of_another_layout_has_not(self, registered: CountingRegistry, old: str, new: str) -> None:
        text = OrderV1.SCHEMA.replace(old, new)
        assert text != OrderV1.SCHEMA
        data = framed(registered.register_schema(SUBJECT, Schema(text, "AVRO")), V1_BYTES[5:])
        read = RecordDeserializer(OrderV1, registered)
        with suppress(Unreadable):
            read(data, CONTEXT)
        assert read.plainly([data], SUBJECT) == [None]


def _no_answer(*_: object) -> Schema:
    raise Unavailable("no answer")


class TestUnreadable:
    """Each message that cannot be read has a reason, by which it is counted."""

    @pytest.mark.parametrize(
        ("data", "reason", "sentence"),
        [
            (None, Reason.TOMBSTONE, "it has no value (a tombstone)"),
            (b"", Reason.TOO_SHORT, "it has 0 bytes, magic byte and schema id need 5"),
            (V1_BYTES[:4], Reason.TOO_SHORT, "it has 4 bytes, magic byte and schema id need 5"),
            (b'{"pizza": "margherita"}', Reason.NOT_FRAMED, "its first byte is 0x7b, not the magic byte 0"),
            (b"\xff" + V1_BYTES[1:], Reason.NOT_FRAMED, "its first byte is 0xff, not the magic byte 0"),
            (framed(99, b"\x02a\x02"), Reason.UNKNOWN_ID, "the registry knows no schema of id 99"),
            (framed(2**32 - 1, b"\x02a\x02"), Reason.UNKNOWN_ID, "the registry knows no schema of id 4294967295"),
            (
                framed(1, b"\x02a"),
                Reason.FOREIGN_SCHEMA,
                "schema id 1 does not belong to the subject pizza-order-value",
            ),
            (V1_BYTES[:-1], Reason.TRUNCATED, "its 16 bytes end inside the record"),
            (V1_BYTES[:8], Reason.TRUNCATED, "its 8 bytes end inside the record"),
            (V1_BYTES[:5], Reason.TRUNCATED, "its 5 bytes end inside the record"),
            (V1_BYTES + b"\x00\x00", Reason.TRAILING_BYTES, "2 bytes are left behind the record"),
            (framed(2, b"\x02\xff\x02"), Reason.MALFORMED, "no writer of its schema wrote these bytes: "),
            (framed(2, b"\x00\x02"), Reason.BREAKS_LIMIT, "pizza is '', expected str of length >= 1"),
            (framed(2, b"\x02a\x00"), Reason.BREAKS_LIMIT, "table is 0, expected int >= 1"),
        ],
    )
    def test_reason_and_sentence(
        self, registered: CountingRegistry, data: bytes | None, reason: Reason, sentence: str
    ) -> None:
        error = unreadable(registered, data)
        assert (error.reason, str(error)[: len(sentence)]) == (reason, sentence)

    @pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**40])
    def test_an_integer_beyond_32_bits_is_malformed(self, registered: CountingRegistry, number: int) -> None:
        """No writer has such an `int`, and Java would read another number."""
        assert unreadable(registered, framed(2, b"\x02a" + avro("long", number))).reason is Reason.MALFORMED

    def test_an_id_under_which_another_subject_has_the_same_text(self, registered: CountingRegistry) -> None:
        """In registries that number each subject's schemas apart, an id of theirs is none of ours."""
        schema_id = registered.register_schema("another-value", Schema(OrderV1.SCHEMA, "AVRO"))
        error = unreadable(registered, framed(schema_id, V1_BYTES[5:]))
        assert (error.reason, error.schema_id) == (Reason.FOREIGN_SCHEMA, schema_id)

    def test_a_writer_that_does_not_resolve_is_not_readable(self, registered: CountingRegistry) -> None:
        """Somebody registered, past the gate, a version without a field that this reader needs."""
        schema = {"type": "record", "name": "Order", "namespace": "restaurant", "fields": [{"name": "pizza", "type": "string"}]}  # fmt: skip  # noqa: E501
        schema_id = registered.register_schema("pizza-order-value", Schema(json.dumps(schema), "AVRO"))
        error = unreadable(registered, framed(schema_id, avro(schema, {"pizza": "a"})))
        assert error.reason is Reason.NOT_READABLE

    @pytest.mark.parametrize("field", list(MessageField)[1:])
    @pytest.mark.parametrize("form", [list, dict])
    def test_a_schema_id_in_the_headers(
        self, registered: CountingRegistry, field: MessageField, form: Callable[[Any], Any]
    ) -> None:
        """Confluent's newer framing leaves the value bare: saying so beats guessing at its first bytes."""
        headers = form([(f"__{field}_schema_id", b"\x01" + bytes(16))])
        error = unreadable(registered, V1_BYTES, context(headers, field=field))
        assert error.reason is Reason.ID_IN_HEADERS

    @pytest.mark.parametrize("form", [list, dict])
    def test_the_schema_id_of_the_key_is_not_the_values(
        self, registered: CountingRegistry, form: Callable[[Any], Any]
    ) -> None:
        """Each has a header of its own, and one may be framed the newer way while the other is not."""
        headers = form([("__key_schema_id", b"\x01" + bytes(16))])
        assert RecordDeserializer(OrderV1, registered)(V1_BYTES, context(headers)) == OrderV1("margherita", 17)
        assert unreadable(registered, b"\x14margherita", context(headers)).reason is Reason.NOT_FRAMED

    def test_other_headers_do_not_matter(self, registered: CountingRegistry) -> None:
        read = RecordDeserializer(OrderV1, registered)
        assert read(V1_BYTES, context([("trace", b"1")])) == OrderV1("margherita", 17)

    @pytest.mark.parametrize(
        "data", [V1_BYTES + b"\x00", V1_BYTES[:-1], framed(2, b"\x00\x02"), framed(2, b"\x02\xff\x02")]
    )
    def test_the_schema_id_is_told_where_the_frame_told_it(self, registered: CountingRegistry, data: bytes) -> None:
        assert unreadable(registered, data).schema_id == 2

    def test_the_schema_id_is_not_told_where_there_is_none(self, registered: CountingRegistry) -> None:
        assert unreadable(registered, b"").schema_id is None

    def test_every_reason_is_covered_here(self) -> None:
        """A new reason needs an example above; `other-topic`, `handler` and `compression` are the consumer's own."""
        assert set(Reason) == {
            Reason.NOT_FRAMED, Reason.TOO_SHORT, Reason.ID_IN_HEADERS, Reason.UNKNOWN_ID, Reason.FOREIGN_SCHEMA,
            Reason.TRUNCATED, Reason.TRAILING_BYTES, Reason.MALFORMED, Reason.NOT_READABLE, Reason.BREAKS_LIMIT,
            Reason.TOMBSTONE, Reason.OTHER_TOPIC, Reason.HANDLER, Reason.COMPRESSION,
        }  # fmt: skip

    @settings(derandomize=True, max_examples=3_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.binary(max_size=90), schema_id=st.integers(0, 5), reader=st.sampled_from(VERSIONS))
    def test_any_bytes_end_in_a_record_or_a_reason(
        self, readers: Readers, data: bytes, schema_id: int, reader: type[Record]
    ) -> None:
        """Nobody's bytes stop a consumer, and what is read keeps the contract."""
        for message in (data, framed(schema_id, data)):
            try:
                read = readers[reader](message, CONTEXT)
            except Unreadable:
                continue
            encode(read)

    @settings(derandomize=True, max_examples=1_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(place=st.integers(0, len(V2_BYTES) - 1), byte=st.integers(0, 255), reader=st.sampled_from(VERSIONS))
    def test_one_wrong_byte_ends_in_a_record_or_a_reason(
        self, readers: Readers, place: int, byte: int, reader: type[Record]
    ) -> None:
        data = V2_BYTES[:place] + bytes([byte]) + V2_BYTES[place + 1 :]
        try:
            encode(readers[reader](data, CONTEXT))
        except Unreadable:
            return


def test_many_at_once_are_what_one_at_a_time_are(registered: CountingRegistry) -> None:
    """The batch forms give the same bytes and records, and leave what is not plainly valid to the careful way."""
    orders = [OrderV2("napoli", 3, "a"), OrderV2("é" * 64, 2**31 - 1), OrderV2("bufala", 9000, "x" * 64)]
    serializer, deserializer = RecordSerializer(OrderV2, registered), RecordDeserializer(OrderV2, registered)

    def plainly(*values: bytes | None) -> list[OrderV2 | None]:
        return deserializer.plainly(values, SUBJECT)

    frame = serializer.frame(SUBJECT)
    values = serializer.serialize_all(orders, frame)
    assert values == [serializer(order, CONTEXT) for order in orders]
    assert plainly(*values) == [None, None, None]  # nothing is known of the id yet
    assert [deserializer(value, CONTEXT) for value in values] == orders
    spoilt = [None, b"", values[0][:-1], values[0] + b"x", b"\x01" + values[0][1:]]
    assert plainly(*values, *spoilt) == [*orders, *[None] * 5]
    assert plainly(*values) == orders
    for one in spoilt:  # alone, so that it is the only reason to look closer
        assert plainly(values[0], one, values[1]) == [orders[0], None, orders[1]]
        assert plainly(one) == [None]
    assert plainly() == []
    older = [RecordSerializer(OrderV1, registered)(OrderV1("napoli", 3), CONTEXT)]
    assert deserializer(older[0], CONTEXT) == OrderV2("napoli", 3)
    assert plainly(*older, *values) == [OrderV2("napoli", 3), *orders]
    for order, value in zip(orders, values, strict=True):
        assert plainly(value) == [order]
        assert serializer.serialize_all([order], frame) == [serializer.serialize(order, frame)] == [value]
    with pytest.raises(Refused):
        serializer.serialize_all([OrderV2("", 3)], frame)


def test_a_record_of_another_version_is_refused_rather_than_framed_as_this_one(registered: CountingRegistry) -> None:
    """Its bytes would be read as something else."""
    with pytest.raises(Refused, match="a OrderV1 is no OrderV2"):
        RecordSerializer(OrderV2, registered)(OrderV1("napoli", 3), CONTEXT)  # type: ignore[arg-type]
