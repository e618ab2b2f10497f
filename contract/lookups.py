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

from contract.errors import ContractError, Forbidden, NotRegistered, SettingError, Unavailable

T = TypeVar("T")

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
    if not found.version or found.schema_id is None:
        raise Unavailable("what answers is not a schema registry: its answer names no version and id")
    return Registered(subject, found.version, found.schema_id, already=True)


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
            raise


@contextmanager
def answers() -> Iterator[None]:
    """Turn what the registry's client raises into this project's errors."""
    try:
        yield
    except SchemaRegistryError as error:
        status = error.http_status_code
        if status == HTTPStatus.UNAUTHORIZED:
            names = (
                "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO, or the token of SCHEMA_REGISTRY_BEARER_AUTH_…, which may have"
            )
            raise Forbidden(f"the schema registry refused our credentials (401), check {names} expired") from None
        if status == HTTPStatus.FORBIDDEN:
            hint = "whoever SCHEMA_REGISTRY_…_AUTH_… names may not do this"
            raise Forbidden(f"the schema registry refused our credentials (403): {hint}") from None
        if status in {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}:
            raise ContractError(f"the schema registry refuses it ({status}): {error.error_message}") from None
        if status == HTTPStatus.NOT_FOUND and not is_absent(error):
            raise Unavailable("what answers is not a schema registry (404): is its path missing in the URL?") from None
        raise Unavailable(f"the schema registry answered {status}: {error.error_message}") from None
    except OAuthTokenError as error:
        names = ", ".join(f"SCHEMA_REGISTRY_BEARER_AUTH_{name}" for name in _TOKEN_SETTINGS)
        raise Forbidden(f"no token for the schema registry, check {names}: {error.message}") from None
    except httpx2.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            why = (
                f"the schema registry's certificate is not to be trusted, see SCHEMA_REGISTRY_SSL_CA_LOCATION: {error}"
            )
            raise SettingError(why) from None
        raise Unavailable(f"the schema registry does not answer: {str(error) or type(error).__name__}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unavailable("what answers is not a schema registry: its answer is not a registry's JSON") from None


def is_absent(error: SchemaRegistryError) -> bool:
    """Whether a registry says that it does not hold something; -1 or nothing marks the 404 of what is none."""
    return error.http_status_code == HTTPStatus.NOT_FOUND and error.error_code not in {None, -1}
