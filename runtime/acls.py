"""Permissions on the broker: what it lacks of `access.yaml` and gets, and whether a service has what it needs.

Every function raises Forbidden or Unavailable for what the broker answers or fails to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # in __all__ of none of its stubs
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from contract.access import Access, Permission
from contract.errors import Forbidden, UserError
from runtime.clients import DENIED, broker_error
from runtime.settings import Settings

_KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
_ABSENT = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND}
# What an open look at passwords costs whoever has stolen them from the broker; Kafka's own default.
_SCRAM = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)


@dataclass(frozen=True)
class AclPlan:
    """What the broker has, lacks, and has too much of what concerns a contract's principals, topics and groups."""

    present: tuple[AclBinding, ...]
    missing: tuple[AclBinding, ...]
    surplus: tuple[AclBinding, ...]


def plan(access: Access, admin: AdminClient, settings: Settings) -> AclPlan:
    """Compare what `access.yaml` says with the broker; changes nothing."""
    wanted = [_binding(name, one) for name, all_of in access.permissions.items() for one in sorted(all_of)]
    anyone: Any = None  # the stubs forget that a filter may leave this out
    everything = AclBindingFilter(
        ResourceType.ANY, anyone, ResourcePatternType.ANY, anyone, anyone, AclOperation.ANY, AclPermissionType.ANY
    )
    with _answers("asking for the permissions"):
        # The client gives no error to who may not see them, but none of them.
        cluster = admin.describe_cluster(include_authorized_operations=True, request_timeout=settings.request_timeout)
        if not cluster.result().authorized_operations:
            raise Forbidden(f"{principal(settings)} may not see who may do what; run it as the admin")
        found = admin.describe_acls(everything, request_timeout=settings.request_timeout).result()
    names = {(binding.restype, binding.name) for binding in wanted}
    principals = {binding.principal for binding in wanted}
    concern = [one for one in found if one.principal in principals or any(_covers(one, *name) for name in names)]
    return AclPlan(
        tuple(binding for binding in wanted if binding in found),
        tuple(binding for binding in wanted if binding not in found),
        tuple(sorted(set(concern) - set(wanted), key=describe)),
    )


def apply(plan: AclPlan, admin: AdminClient, settings: Settings, *, prune: bool = False) -> None:
    """Grant what is missing; with `prune` take away what is too much."""
    with _answers("granting permissions"):
        _all(admin.create_acls(list(plan.missing), request_timeout=settings.request_timeout) if plan.missing else {})
    surplus = [_only(binding) for binding in plan.surplus] if prune else []
    with _answers("taking permissions away"):
        _all(admin.delete_acls(surplus, request_timeout=settings.request_timeout) if surplus else {})


def describe(binding: AclBinding) -> str:
    """Say what a permission is, in Kafka's words."""
    one: Any = binding  # the stubs give what may be passed in for what it holds
    denied = "" if one.permission_type == AclPermissionType.ALLOW else f" {one.permission_type.name}"
    pattern = "" if one.resource_pattern_type == ResourcePatternType.LITERAL else " prefixed"
    host = "" if one.host == "*" else f" from {one.host}"
    return f"{one.principal}{denied} {one.operation.name} on the {one.restype.name.lower()}{pattern} {one.name}{host}"


def set_passwords(passwords: Mapping[str, bytes], admin: AdminClient, settings: Settings) -> None:
    """Make principals known by a password (SCRAM-SHA-512), or give them another one."""
    users: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(name, _SCRAM, password) for name, password in passwords.items()
    ]
    with _answers("setting passwords"):
        _all(admin.alter_user_scram_credentials(users, request_timeout=settings.request_timeout))


def require(permissions: Collection[Permission], admin: AdminClient, settings: Settings) -> None:
    """Raise Forbidden, with the command that grants it, where we lack any of these permissions."""
    lacking = [*_lacking(permissions, "topic", admin, settings), *_lacking(permissions, "group", admin, settings)]
    if lacking:
        raise Forbidden(
            f"{principal(settings)} lacks {', '.join(map(str, lacking))}; to grant that: python scripts/apply_acls.py "
            f"(it grants what {settings.schemas_dir / 'access.yaml'} says; add it there if it is missing)"
        )


def principal(settings: Settings) -> str:
    """Name who we are to the broker, as far as a client can know."""
    given, protocol = settings.kafka, settings.kafka.get("security.protocol", "PLAINTEXT").upper()
    if protocol.startswith("SASL"):
        return f"User:{given.get('sasl.username') or given.get('sasl.oauthbearer.client.id') or '(of the token)'}"
    return "User:(of KAFKA_SSL_CERTIFICATE_…)" if protocol == "SSL" else "User:ANONYMOUS"


def _lacking(
    permissions: Collection[Permission], kind: str, admin: AdminClient, settings: Settings
) -> Iterator[Permission]:
    """Ask the broker what it lets us do; where we may not even ask, we may do nothing."""
    names = list(dict.fromkeys(one.name for one in permissions if one.kind == kind))
    if not names:
        return
    options: Any = {"include_authorized_operations": True, "request_timeout": settings.request_timeout}
    futures = (
        admin.describe_topics(TopicCollection(names), **options)
        if kind == "topic"
        else admin.describe_consumer_groups(names, **options)
    )
    allowed: dict[str, Collection[AclOperation] | None] = {}
    for name, future in futures.items():
        with _answers(f"asking what we may do with the {kind} {name}"):
            try:
                allowed[name] = future.result().authorized_operations
            except KafkaException as error:
                if error.args[0].code() not in DENIED | _ABSENT:
                    raise
                allowed[name] = () if error.args[0].code() in DENIED else None
    for one in permissions:
        operations = allowed.get(one.name) if one.kind == kind else None
        if operations is not None and AclOperation[one.operation] not in operations:
            yield one


def _binding(name: str, permission: Permission) -> AclBinding:
    operation, allow = AclOperation[permission.operation], AclPermissionType.ALLOW
    pattern = ResourcePatternType.PREFIXED if permission.name.endswith("*") else ResourcePatternType.LITERAL
    named = permission.name.removesuffix("*")
    return AclBinding(_KINDS[permission.kind], named, pattern, f"User:{name}", "*", operation, allow)


def _only(one: AclBinding) -> AclBindingFilter:
    pattern = one.resource_pattern_type
    return AclBindingFilter(one.restype, one.name, pattern, one.principal, one.host, one.operation, one.permission_type)


def _covers(binding: AclBinding, kind: object, name: str) -> bool:
    if binding.restype != kind:
        return False
    if binding.resource_pattern_type == ResourcePatternType.PREFIXED:
        return name.startswith(binding.name)
    return binding.name in {name, "*"}


def _all(futures: Mapping[Any, Any]) -> None:
    for future in futures.values():
        future.result()


@contextmanager
def _answers(doing: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        if error.args[0].code() == KafkaError.SECURITY_DISABLED:
            raise UserError("the broker lets everybody do everything: it has no authorizer.class.name") from None
        raise broker_error(error, doing) from None
