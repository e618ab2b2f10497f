"""Random pairs of schemas: the verdict is that of Avro's own Python library, and holds for real bytes."""

import io
import json
from itertools import chain
from typing import Any

import fastavro
from avro.compatibility import ReaderWriterCompatibilityChecker
from avro.schema import parse as avro_parse
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from contract.compatibility import compare

# The same examples each time: what fails in CI fails everywhere.
repeatable = settings(
    derandomize=True, database=None, deadline=None, max_examples=400, suppress_health_check=list(HealthCheck)
)

VALUES: dict[str, list[Any]] = {
    "null": [None],
    "boolean": [True, False],
    "int": [0, -(2**31), 2**31 - 1],
    "long": [0, -(2**63), 2**63 - 1],
    "float": [0.0, -1.5],
    "double": [0.0, 1e300],
    "bytes": [b"", b"pizza"],
    "string": ["", "pizza"],
}
primitives = st.sampled_from(list(VALUES))
symbols = st.lists(st.sampled_from("ABCD"), min_size=1, unique=True)


class Pairs:
    """Draws the reader and the writer together, so that they are alike but for a few changes.

    Left out is where one of the judges is not Java: two branches of one unqualified name (fastavro takes the first that
    is called so), aliases without namespace (the oracle adds none), a field that could come from two (it takes one).
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.names: list[tuple[str, str]] = []

    def changes(self) -> bool:
        """Draw whether there is a change here."""
        return self.draw(st.integers(0, 5)) == 5

    def type(self, depth: int) -> tuple[Any, Any]:
        """Draw one type of each; a name may be used where it is defined, too."""
        kinds = ["primitive", "primitive", "name"] if self.names else ["primitive"]
        kinds += ["array", "map", "union", "enum", "fixed", "record", "record"] if depth else []
        kind = self.draw(st.sampled_from(kinds))
        if kind == "union":
            return self.union(depth)
        reader, writer = self.branch(kind, depth)
        return (["null", reader] if reader != "null" and self.changes() else reader), writer

    def branch(self, kind: str, depth: int) -> tuple[Any, Any]:
        """Draw what may be in a union."""
        if kind == "primitive":
            writer = self.draw(primitives)
            return (self.draw(primitives) if self.changes() else writer), writer
        if kind == "name":
            return self.draw(st.sampled_from(self.names))
        if kind in {"array", "map"}:
            key = "items" if kind == "array" else "values"
            reader, writer = self.type(depth - 1)
            return {"type": kind, key: reader}, {"type": kind, key: writer}
        return self.named(kind, depth)

    def union(self, depth: int) -> tuple[Any, Any]:
        """Draw unions of some primitive types, which may differ, and of one of each other kind at most."""
        kinds = self.draw(
            st.lists(st.sampled_from(["array", "map", "enum", "fixed", "record"]), unique=True, max_size=2)
        )
        writer = self.draw(st.lists(primitives, unique=True, min_size=1, max_size=2))
        reader = self.draw(st.lists(primitives, unique=True)) if self.changes() else writer
        readers, writers = _sides([self.branch(kind, depth - 1) for kind in kinds])
        return [*reader, *readers], [*writers, *writer]

    def named(self, kind: str, depth: int) -> tuple[Any, Any]:
        """Draw named types, which may be renamed, with or without an alias."""
        old = new = f"{self.draw(st.sampled_from('ab'))}.N{len(self.names)}"
        if self.changes():
            new = self.draw(st.sampled_from([f"{old}x", f"c.{old}"]))
        writer: dict[str, Any] = {"type": kind, "name": old}
        reader = {**writer, "name": new, "aliases": [old] if self.draw(st.booleans()) else []}
        self.names.append((new, old))
        if kind == "fixed":
            writer["size"] = self.draw(st.integers(1, 2))
            reader["size"] = 3 if self.changes() else writer["size"]
        elif kind == "enum":
            writer["symbols"] = self.draw(symbols)
            reader["symbols"] = self.draw(symbols) if self.changes() else writer["symbols"]
            reader |= {"default": reader["symbols"][0]} if self.changes() else {}
        else:
            names = self.draw(st.lists(st.sampled_from("abc"), max_size=3, unique=True))
            readers, writers = _sides([self.field(name, depth) for name in names])
            reader["fields"], writer["fields"] = [*chain(*readers)], [*chain(*writers)]
            if self.changes():
                reader["fields"].sort(key=lambda each: str(each["type"]) not in VALUES)
        return reader, writer

    def field(self, name: str, depth: int) -> tuple[list[Any], list[Any]]:
        """Draw a field, which may be one side's only, or have another name."""
        if self.changes():
            only = {"name": name, "type": self.draw(primitives)}
            optional = {"name": name, "type": ["null", "int"], "default": None}
            sides: list[tuple[list[Any], list[Any]]] = [([only], []), ([optional], []), ([], [only])]
            return sides[self.draw(st.integers(0, 2))]
        reader, writer = ({"name": name, "type": each} for each in self.type(depth - 1))
        if self.changes():
            reader = {**reader, "name": f"{name}x", "aliases": [name] if self.draw(st.booleans()) else []}
        return [reader], [writer]


def _sides(drawn: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [reader for reader, _ in drawn], [writer for _, writer in drawn]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Draw (reader, writer)."""
    return Pairs(draw).type(3)


def value(draw: st.DrawFn, schema: Any, named: dict[str, Any], depth: int = 0) -> Any:
    """Draw a value that the schema allows; gives up on a record that is never without itself."""
    assume(depth < 12)
    drawn: Any
    match schema:
        case list():
            drawn = value(draw, draw(st.sampled_from(schema)), named, depth + 1)
        case str() if schema in VALUES:
            drawn = draw(st.sampled_from(VALUES[schema]))
        case str():
            drawn = value(draw, named[schema], named, depth + 1)
        case {"symbols": names}:
            drawn = draw(st.sampled_from(names))
        case {"size": size}:
            drawn = b"x" * size
        case {"fields": fields}:
            drawn = {each["name"]: value(draw, each["type"], named, depth + 1) for each in fields}
        case {"items": items}:
            drawn = [value(draw, items, named, depth + 1) for _ in range(draw(st.integers(0, 2)))]
        case {"values": values}:
            drawn = {key: value(draw, values, named, depth + 1) for key in draw(st.sets(st.sampled_from("xy")))}
    return drawn


@repeatable
@given(pairs())
def test_oracle(pair: tuple[Any, Any]) -> None:
    """The verdict and its rules are those of `avro.compatibility`, which has other locations than Java."""
    reader, writer = pair
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # its only method has types
    oracle = checker.get_compatibility(avro_parse(json.dumps(reader)), avro_parse(json.dumps(writer)))
    assert sorted(each.rule for each in compare(reader, writer)) == sorted(
        rule.name.upper() for rule in oracle.incompatibilities
    )


@repeatable
@given(pairs(), st.data())
def test_bytes(pair: tuple[Any, Any], data: st.DataObject) -> None:
    """What is written with the writer is read with a compatible reader."""
    reader, writer = pair
    assume(not compare(reader, writer))
    named: dict[str, Any] = {}
    fastavro.parse_schema(writer, named)
    written = data.draw(st.composite(value)(writer, named))
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, writer, written)
    buffer.seek(0)
    fastavro.schemaless_reader(buffer, writer, reader)
    assert not buffer.read()
