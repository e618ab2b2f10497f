"""Looks schemas up in a registry, by text, by version and by id; what every serializer and deserializer needs of one.

Every function raises NotRegistered, Forbidden, ContractError or Unavailable for what a registry answers or fails to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import httpx2
from confluent_kafka.schema_registry import (
    MetadataTags,
    RegisteredSchema,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
)
from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

from contract.errors import (
    ContractError,
    Forbidden,
    NotRegistered,
    PipelineError,
    Reason,
    SettingError,
    Unavailable,
    Unreadable,
)

if TYPE_CHECKING:
    from contract.avro_schema import Type

T = TypeVar("T")

# The client (2.16) keeps each schema that it fetches by its hash, and makes that of metadata's tags from lists, which
# have none: it would fail after each good answer with such a schema.
MetadataTags.__hash__ = lambda tags: hash(frozenset(tags.tags))  # type: ignore[method-assign]

_MOST_VERSIONS = 1_000
"""Of a subject, the newest, are compared with a schema whose text the registry does not find."""
_MOST_REFERENCES = 100
"""Schemas that one refers to, directly or not: each is a request."""

_LONGEST_QUOTE = 300
_NUMBERS = range(1, 2**31)
"""What a version or an id may be: the wire format has 32 bits for one, and Java's are signed."""
_REFUSALS = frozenset({HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TOKEN_SETTINGS = ("CLIENT_ID", "CLIENT_SECRET", "ISSUER_ENDPOINT_URL")


@dataclass(frozen=True)
class Registered:
    """A released version as the registry holds it; `version` and `id` are the registry's numbers."""

    subject: str
    version: int
    id: int
    already: bool
    deleted: bool = False
    """Softly: nobody is to write with it any more, and what was written with it can be read."""


def lookup(
    registry: SchemaRegistryClient, subject: str, text: str, references: Sequence[SchemaReference] = ()
) -> Registered | None:  # fmt: skip
    """Find a schema's version and id in a subject by its text; None when the registry does not find that.

    Deleted versions count, too: what they wrote may still be in the topic.
    """
    schema = Schema(text, "AVRO", list(references))
    # 422: it is no Avro schema, or refers to others, as another subject's may.
    found = unless_absent(
        f"/subjects/{subject}", lambda: registry.lookup_schema(subject, schema, deleted=True), also=422
    )
    return None if found is None else registered_as(subject, found)


def find(
    registry: SchemaRegistryClient, subject: str, text: str, references: Sequence[SchemaReference], parsed: Type
) -> Registered | None:  # fmt: skip
    """Find a schema's version and id in a subject; None when no version of it, a deleted one neither, is this schema.

    Its text finds it in one request. Confluent's registry does not find a text that is there with metadata or rules
    alone, and may have given it those itself, as the version before had them; then the versions are compared.
    """
    return lookup(registry, subject, text, references) or _find_parsed(registry, subject, parsed)


def _find_parsed(registry: SchemaRegistryClient, subject: str, parsed: Type) -> Registered | None:
    from contract.canonical import is_same  # noqa: PLC0415 - a lone record would wait for its import

    for number in reversed(versions(registry, subject)):
        held = version(registry, subject, number)
        with suppress(Unreadable):
            if held is not None and is_same(parse_registered(registry, held.schema), parsed):
                return registered_as(subject, held)
    return None


def require(registry: SchemaRegistryClient, subject: str, text: str, version: int) -> Registered:
    """Find a released version in the registry; raises NotRegistered, with the command that registers it."""
    registered = lookup(registry, subject, text)
    if registered is None:
        from contract.binary import parse_writer  # noqa: PLC0415 - a lone record would wait for its import

        registered = _find_parsed(registry, subject, parse_writer(text))
    if registered is None:
        raise NotRegistered(
            f"the registry does not hold version {version} of {subject}; run: python scripts/register_schema.py"
        )
    return registered


def registered_as(subject: str, found: RegisteredSchema) -> Registered:
    """Return what a registry answers of a version; raises Unavailable for an answer that names no version and id."""
    if not _is_number(found.version) or not _is_number(found.schema_id):
        raise Unavailable("what answers is not a schema registry: its answer names no version and id")
    return Registered(subject, found.version, found.schema_id, already=True)


def _is_number(number: object) -> TypeGuard[int]:
    return type(number) is int and number in _NUMBERS


def versions(registry: SchemaRegistryClient, subject: str, *, deleted: bool = True) -> list[int]:
    """Return the numbers of a subject's versions, the newest _MOST_VERSIONS of them; none of an unknown subject."""
    found = unless_absent(
        f"/subjects/{subject}/versions", lambda: sorted(map(int, registry.get_versions(subject, deleted=deleted)))
    )
    return (found or [])[-_MOST_VERSIONS:]


def version(registry: SchemaRegistryClient, subject: str, number: int) -> RegisteredSchema | None:
    """Return one version of a subject, a deleted one too; None when the registry does not hold it."""
    return unless_absent(
        f"/subjects/{subject}/versions/{number}", lambda: registry.get_version(subject, number, deleted=True)
    )


def schema_of(registry: SchemaRegistryClient, schema_id: int) -> Schema | None:
    """Fetch a schema by its id; None when the registry does not know the id, or when none can."""
    if schema_id not in _NUMBERS:  # Confluent's would answer as to a path that it does not have
        return None
    return unless_absent(f"/schemas/ids/{schema_id}", lambda: registry.get_schema(schema_id))


def is_of_subject(registry: SchemaRegistryClient, schema_id: int, subject: str) -> bool:
    """Return whether a version of a subject, a deleted one too, has this id.

    Asked by the id (Confluent's API, GET /schemas/ids/{id}/versions): one text has several where it is registered with
    other metadata, rules or references. With the URL of a context, a registry answers with `:.context:subject`.
    """
    found = unless_absent(
        f"/schemas/ids/{schema_id}/versions", lambda: registry.get_schema_versions(schema_id, deleted=True)
    )
    return any(re.sub(r"^:\.[^:]*:", "", str(one.subject)) == subject for one in found or ())


def parse_registered(registry: SchemaRegistryClient, schema: Schema) -> Type:
    """Parse a registered schema with those that it refers to, which are fetched.

    Raises Unreadable where it is no Avro schema that can be used: no later try would make it one.
    """
    from contract.binary import parse_writer  # noqa: PLC0415 - a lone record would wait for its import

    if (schema.schema_type or "AVRO") != "AVRO":
        raise _unusable(f"its type is {schema.schema_type}")
    texts: dict[str, str] = {}
    _fetch_references(registry, schema, texts, set())
    return parse_writer(schema.schema_str or "", texts)


def _fetch_references(registry: SchemaRegistryClient, schema: Schema, texts: dict[str, str], seen: set[str]) -> None:
    """Add the texts of the schemas that one refers to, each after those that it refers to itself."""
    for reference in schema.references or ():
        subject, number = reference.subject, reference.version
        name = f"{subject} version {number}"
        if name in seen:
            continue
        seen.add(name)
        if len(seen) > _MOST_REFERENCES:
            raise _unusable(f"it refers to more than {_MOST_REFERENCES} schemas")
        held = version(registry, subject, number) if isinstance(subject, str) and _is_number(number) else None
        if held is None:
            raise _unusable(f"it refers to {name}, which the registry does not hold")
        _fetch_references(registry, held.schema, texts, seen)
        texts[name] = held.schema.schema_str or ""


def _unusable(why: str) -> Unreadable:
    return Unreadable(Reason.NOT_READABLE, f"what wrote it is no Avro schema that can be used: {why}")


def unless_absent(path: str, ask: Callable[[], T], *, also: int | None = None) -> T | None:
    """Ask a registry for what it has at a path of its API, which a sentence may name.

    None when it does not hold that, or when it answers `also`, an HTTP status.
    """
    with answers(path):
        try:
            return ask()
        except SchemaRegistryError as error:
            if is_absent(error) or error.http_status_code == also:
                return None
            if error.http_status_code in _REFUSALS:  # of nothing that was to be kept
                raise _unavailable(error) from None
            raise


@contextmanager
def answers(path: str) -> Iterator[None]:
    """Turn what the registry's client raises, whatever it is, into this project's errors; `path` is what is asked."""
    try:
        yield
    except PipelineError:
        raise
    except SchemaRegistryError as error:
        raise _error_of(error, path) from None
    except OAuthTokenError as error:
        names = ", ".join(f"SCHEMA_REGISTRY_BEARER_AUTH_{name}" for name in _TOKEN_SETTINGS)
        raise Forbidden(f"no token for the schema registry, check {names}: {_short(error.message)}") from None
    except httpx2.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            why = (
                f"the schema registry's certificate is not to be trusted, see SCHEMA_REGISTRY_SSL_CA_LOCATION: {error}"
            )
            raise SettingError(why) from None
        raise Unavailable(f"the schema registry does not answer: {_said(error)}") from None
    except httpx2.InvalidURL as error:
        raise SettingError(f"SCHEMA_REGISTRY_URL is not usable: {_said(error)}") from None
    except Exception as error:  # noqa: BLE001 - only its client is called: whatever it stumbles over is the answer
        what = "its answer is not a registry's JSON"
        raise Unavailable(f"what answers is not a schema registry: {what} ({_said(error)})") from None


def is_absent(error: SchemaRegistryError) -> bool:
    """Whether a registry says that it does not hold something, by one of its own codes (40401, 40403, …).

    An `error_code` of 404 is Confluent's answer to a path that its API does not have, and our proxy's; other servers
    send none. Who takes that for absent finds that good messages are of no schema.
    """
    code = error.error_code
    return error.http_status_code == HTTPStatus.NOT_FOUND and type(code) is int and code // 100 == HTTPStatus.NOT_FOUND


def _error_of(error: SchemaRegistryError, path: str) -> PipelineError:
    status = error.http_status_code
    if status == HTTPStatus.UNAUTHORIZED:
        names = "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO, or the token of SCHEMA_REGISTRY_BEARER_AUTH_…, which may have"
        return Forbidden(f"the schema registry refused our credentials (401), check {names} expired")
    if status == HTTPStatus.FORBIDDEN:
        hint = "whoever SCHEMA_REGISTRY_…_AUTH_… names may not do this"
        return Forbidden(f"the schema registry refused our credentials (403): {hint}")
    if status in _REFUSALS:
        return ContractError(f"the schema registry refuses it ({status}): {_short(error.error_message)}")
    if status == HTTPStatus.NOT_FOUND and not is_absent(error):
        return Unavailable(
            f"what answers is not a schema registry (404), it has no {_short(path)}: "
            "is its path missing in the URL (SCHEMA_REGISTRY_URL), or does a proxy keep that back?"
        )
    return _unavailable(error)


def _unavailable(error: SchemaRegistryError) -> Unavailable:
    status, said = error.http_status_code, _short(error.error_message)
    if status in _REDIRECTS:
        said = "a redirect, which is not followed: set SCHEMA_REGISTRY_URL to where it leads"
    return Unavailable(f"the schema registry answered {status}: {said}")


def _said(error: Exception) -> str:
    return _short(str(error)) or type(error).__name__


def _short(said: object) -> str:
    """Return what a server has sent so that it fits into a sentence: it may be pages, of any type."""
    text = said if isinstance(said, str) else repr(said)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"
