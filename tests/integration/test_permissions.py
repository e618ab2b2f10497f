"""A broker that does not let everybody do everything: what is missing is named, with the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # in __all__ of none of its stubs
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from stack.local import LocalStack
from tests.integration.conftest import ServerAddresses
from tests.restaurant import Restaurant

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture
def guarded(servers: ServerAddresses, tmp_path: Path) -> Iterator[Restaurant]:
    """A restaurant on a broker where nobody may make its topic."""
    with LocalStack(tmp_path / "stack", properties=AUTHORIZER) as stack:
        (tmp_path / "restaurant").mkdir()
        restaurant = Restaurant(tmp_path / "restaurant", stack.bootstrap_servers, servers.registry_url, partitions=3)
        assert restaurant.register().returncode == 0
        bindings = [
            # Creating is asked of the cluster and of the topic; whatever else the cluster is asked stays allowed.
            _acl(ResourceType.BROKER, "kafka-cluster", AclOperation.ALL, AclPermissionType.ALLOW),
            _acl(ResourceType.BROKER, "kafka-cluster", AclOperation.CREATE, AclPermissionType.DENY),
            _acl(ResourceType.TOPIC, restaurant.topic, AclOperation.ALL, AclPermissionType.ALLOW),
            _acl(ResourceType.TOPIC, restaurant.topic, AclOperation.CREATE, AclPermissionType.DENY),
        ]
        admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
        for made in admin.create_acls(bindings).values():
            made.result(10)
        yield restaurant
        restaurant.close()


def _acl(kind: ResourceType, name: str, operation: AclOperation, permission: AclPermissionType) -> AclBinding:
    return AclBinding(kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission)


def test_who_may_not_make_the_topic_is_told_the_command_that_makes_it(guarded: Restaurant) -> None:
    """The waiter and the cook end alike, at once, with exit code 2."""
    for command in ("producer.waiter", "consumers.cook"):
        refused = guarded.run("-m", command)
        assert refused.returncode == 2
        assert f"we may not make the topic {guarded.topic}; one who may runs: kafka-topics" in refused.stderr
        assert f"--create --topic {guarded.topic} --partitions 3 --replication-factor 1" in refused.stderr
