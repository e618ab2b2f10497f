"""Decides whether a reader's Avro schema can read what a writer's schema wrote, and says why where it cannot.

To be read beside the Avro specification's "Schema Resolution". Where that leaves a choice, this does as Java Avro
1.12's `SchemaCompatibility` does, which decides in Confluent's registry: verdicts, rules and locations are the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias, TypeVar

from contract.avro_schema import Recursion, Schema, Type, parse, run

T = TypeVar("T")


class Rule(StrEnum):
    """The rules that a pair of schemas can break, by the names the registries use."""

    READER_FIELD_MISSING_DEFAULT_VALUE = "READER_FIELD_MISSING_DEFAULT_VALUE"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    MISSING_UNION_BRANCH = "MISSING_UNION_BRANCH"
    MISSING_ENUM_SYMBOLS = "MISSING_ENUM_SYMBOLS"
    NAME_MISMATCH = "NAME_MISMATCH"
    FIXED_SIZE_MISMATCH = "FIXED_SIZE_MISMATCH"


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """One reason why a reader cannot read what a writer wrote.

    `path` is the location that Java Avro gives: it counts fields as the reader has them and branches as the writer
    has them, so it may point to nothing in either. `reader_at` and `writer_at` are JSON pointers that do.
    """

    rule: str  # one of Rule, or of contract/rules.py, which has no path but the pointers
    path: str
    message: str
    fix_reader: str  # what to do where the reader is the schema that can still be changed
    fix_writer: str  # and where the writer is
    reader_at: str
    writer_at: str


class Level(StrEnum):
    """How far the versions of a subject must understand each other, by the names of Confluent Schema Registry."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"


def required_reads(level: Level, history: Sequence[T], candidate: T) -> tuple[tuple[T, T], ...]:
    """Return the pairs (reader, writer) that `level` wants to be compatible.

    `history` is what was released, oldest first. BACKWARD: the candidate reads the released; FORWARD: the released
    read the candidate; FULL: both. Of the released only the newest counts, unless the level is transitive.
    """
    direction, _, transitive = level.partition("_")
    released = history if transitive else history[-1:]
    backward = [(candidate, old) for old in released if direction in {"BACKWARD", "FULL"}]
    forward = [(old, candidate) for old in released if direction in {"FORWARD", "FULL"}]
    return (*backward, *forward)


def compare(reader: Schema | Type, writer: Schema | Type) -> tuple[Incompatibility, ...]:
    """Return why `reader` cannot read what `writer` wrote; nothing means that it reads all of it.

    A schema that is compared often is better parsed once before. A break inside a named type is returned for each
    use of that type, each time with the location of its first use, as Java does. Raises SchemaError.
    """
    return tuple(run(_Comparison().types, parse(reader), parse(writer), ""))


_Found: TypeAlias = Sequence[Incompatibility]

# What a reader's type reads beside itself.
PROMOTIONS = {
    "long": {"int"},
    "float": {"int", "long"},
    "double": {"int", "long", "float"},
    "string": {"bytes"},
    "bytes": {"string"},
}

_REPEATED = 1_000  # breaks told again where a type is used again: types that use a type twice double them


class _Comparison:
    """One comparison. It remembers what it found for each pair of types, so that recursive ones have an end."""

    def __init__(self) -> None:
        self._known: dict[tuple[Type, Type], _Found] = {}

    def types(self, reader: Type, writer: Type, path: str) -> Recursion[_Found]:
        """Find what keeps `reader` from reading `writer`."""
        pair = (reader, writer)
        if pair in self._known:
            return self._known[pair][:_REPEATED]
        self._known[pair] = ()  # met again inside itself, it breaks nothing that is not found elsewhere
        self._known[pair] = found = yield from self._resolve(reader, writer, path)
        return found

    def _resolve(self, reader: Type, writer: Type, path: str) -> Recursion[_Found]:
        found: _Found = ()
        match reader.kind, writer.kind:
            case _, "union":
                found = yield from self._writer_union(reader, writer, path)
            case "union", _:
                found = yield from self._reader_union(reader, writer, path)
            case "array", "array":
                found = yield reader.parts[0], writer.parts[0], f"{path}/items"
            case "map", "map":
                found = yield reader.parts[0], writer.parts[0], f"{path}/values"
            case "record", "record":
                found = [*_named(reader, writer, path), *(yield from self._fields(reader, writer, path))]
            case ("enum", "enum") | ("fixed", "fixed"):
                found = [*_named(reader, writer, path)]
            case kind, other if kind != other and other not in PROMOTIONS.get(kind, ()):
                message = f"the reader's {reader} cannot be read from the writer's {writer}"
                fixes = (
                    f"keep {writer}, and add a new field with a default for {reader}",
                    f"keep {reader}, and add a new field for {writer}",
                )
                found = [Incompatibility(Rule.TYPE_MISMATCH, path or "/", message, *fixes, reader.at, writer.at)]
        return found

    def _writer_union(self, reader: Type, writer: Type, path: str) -> Recursion[_Found]:
        """Any branch may have been written: the reader must read each."""
        found: list[Incompatibility] = []
        for position, branch in enumerate(writer.parts):
            here = f"{path}/{position}"
            if reader.kind == "union":  # Java judges these as if they were whole schemas
                found += [replace(one, path=here) for one in (yield reader, branch, "")]
            else:
                found += yield reader, branch, here
        return found

    def _reader_union(self, reader: Type, writer: Type, path: str) -> Recursion[_Found]:
        """One branch that reads all that is written is enough. Else a branch of the same name says what it lacks."""
        message = f"the reader's union has no branch that reads the writer's {writer}"
        fixes = f"add {writer} to the union", f"do not write {writer} here"
        missing = Incompatibility(Rule.MISSING_UNION_BRANCH, path or "/", message, *fixes, reader.at, writer.at)
        for branch in reader.parts:
            found = yield branch, writer, ""
            if not found:
                return ()
            if branch.kind == writer.kind and same_name(branch, writer):
                missing = replace(found[0], rule=missing.rule, path=missing.path)
        return [missing]

    def _fields(self, reader: Type, writer: Type, path: str) -> Recursion[_Found]:
        """Each field of the reader is the writer's of that name, or of an alias, or has its default."""
        found: list[Incompatibility] = []
        for position, field in enumerate(reader.fields.values()):
            here = f"{path}/fields/{position}"
            same = writer.fields.get(field.name)
            if same is not None and not field.aliases and field.is_like(same):  # as most fields are
                continue
            sources = [name for name in (field.name, *field.aliases) if name in writer.fields]
            if len(sources) == 1 and field.is_like(writer.fields[sources[0]]):
                continue
            if len(sources) == 1:
                found += yield field.type, writer.fields[sources[0]].type, f"{here}/type"
            elif sources:  # Java throws, and the registry answers that they are incompatible
                names = " and ".join(f"`{name}`" for name in sources)
                message = f"the reader's field `{field.name}` could be any of the writer's {names}"
                fixes = f"drop the aliases of `{field.name}`", f"write only one of {names}"
                found.append(Incompatibility(Rule.NAME_MISMATCH, here, message, *fixes, field.at, writer.at))
            elif field.default is ...:
                rule = Rule.READER_FIELD_MISSING_DEFAULT_VALUE
                message = f"the reader's field `{field.name}` is not written and has no default"
                fixes = f"give `{field.name}` a default", f"keep the field `{field.name}`"
                lacking = Incompatibility(rule, here, message, *fixes, field.at, f"{writer.at}/fields")
                if field.type.default is None:
                    found.append(lacking)
                else:  # Java compares the enum, for its own default, with the writer's record
                    mismatch = yield field.type, writer, f"{here}/type"
                    found += [replace(lacking, rule=one.rule, path=one.path) for one in mismatch]
        return found


def same_name(reader: Type, writer: Type) -> bool:
    """Whether two named types are called the same: without their namespaces, but the reader's aliases with theirs."""
    return reader.name.rpartition(".")[2] == writer.name.rpartition(".")[2] or writer.name in reader.aliases


def _named(reader: Type, writer: Type, path: str) -> Iterator[Incompatibility]:
    """Find what two records, enums or fixed have otherwise, beside fields: name, symbols, size."""

    def broken(rule: Rule, word: str, message: str, fixes: tuple[str, str]) -> Incompatibility:
        return Incompatibility(rule, f"{path}/{word}", message, *fixes, f"{reader.at}/{word}", f"{writer.at}/{word}")

    if not same_name(reader, writer):
        fixes = f"give {reader} the alias `{writer.name}`", f"keep the name `{reader.name}`"
        yield broken(Rule.NAME_MISMATCH, "name", f"the reader's {reader} is not the writer's {writer}", fixes)
    missing = ", ".join(f"`{symbol}`" for symbol in writer.symbols if symbol not in reader.symbols)
    if missing and reader.default not in reader.symbols:  # a default stands in for what is missing
        message = f"the reader's {reader} has neither the writer's {missing} nor a default"
        fixes = f"keep {missing}, or give {reader} a default", f"leave {missing} out"
        yield broken(Rule.MISSING_ENUM_SYMBOLS, "symbols", message, fixes)
    if reader.size != writer.size:
        message = f"the reader's {reader} has {reader.size} bytes and the writer's {writer.size}"
        fixes = f"keep the size {writer.size}", f"keep the size {reader.size}"
        yield broken(Rule.FIXED_SIZE_MISMATCH, "size", message, fixes)
