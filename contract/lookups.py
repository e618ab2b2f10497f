"""Looks schemas up in a registry, by text and by id; what every serializer and deserializer needs of one.

Every function raises NotRegistered, Forbidden, ContractError or Unavailable for what a registry answers or fails to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

from contract.errors import ContractError, Forbidden, NotRegistered, PipelineError, SettingError, Unavailable

T = TypeVar("T")

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


def lookup(
    registry: SchemaRegistryClient,
    subject: str,
    text: str,
    references: Sequence[SchemaReference] = (),
    *,
    deleted: bool = True,
) -> Registered | None:
    """Find a schema's version and id in a subject by its text; None when the subject does not hold it.

    `deleted` versions count, too, for whoever reads: what they wrote may still be in the topic.
    """
    schema = Schema(text, "AVRO", list(references))
    # 422: it is no Avro schema, or refers to others, as another subject's may.
    found = unless_absent(lambda: registry.lookup_schema(subject, schema, deleted=deleted), also=422)
    if found is None:
        return None
    if not all(type(number) is int and number in _NUMBERS for number in (found.version, found.schema_id)):
        raise Unavailable("what answers is not a schema registry: its answer names no version and id")
    return Registered(subject, int(found.version or 0), int(found.schema_id or 0), already=True)


def require(registry: SchemaRegistryClient, subject: str, text: str, version: int) -> Registered:
    """Find a released version in the registry; raises NotRegistered, with the command that registers it."""
    registered = lookup(registry, subject, text)
    if registered is None:
        raise NotRegistered(
            f"the registry does not hold version {version} of {subject}; run: python scripts/register_schema.py"
        )
    return registered


def schema_text(registry: SchemaRegistryClient, schema_id: int) -> str | None:
    """Fetch a schema by its id; None when the registry does not know the id."""
    return unless_absent(lambda: registry.get_schema(schema_id).schema_str)


def unless_absent(ask: Callable[[], T], *, also: int | None = None) -> T | None:
    """Ask a registry; None when it does not hold what is asked for, or when it answers `also`, an HTTP status."""
    with answers():
        try:
            return ask()
        except SchemaRegistryError as error:
            if is_absent(error) or error.http_status_code == also:
                return None
            if error.http_status_code in _REFUSALS:  # of nothing that was to be kept
                raise _unavailable(error) from None
            raise


@contextmanager
def answers() -> Iterator[None]:
    """Turn what the registry's client raises, whatever it is, into this project's errors."""
    try:
        yield
    except PipelineError:
        raise
    except SchemaRegistryError as error:
        raise _error_of(error) from None
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
    """Whether a registry says that it does not hold something; no number, or -1, marks the 404 of what is none."""
    code = error.error_code
    return error.http_status_code == HTTPStatus.NOT_FOUND and type(code) is int and code != -1


def _error_of(error: SchemaRegistryError) -> PipelineError:
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
        return Unavailable("what answers is not a schema registry (404): is its path missing in the URL?")
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
