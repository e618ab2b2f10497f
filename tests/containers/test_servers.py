"""The servers' images refuse to start on half a configuration: Confluent's, and with them what stands in for them."""

from __future__ import annotations

import pytest
from testcontainers.compose import DockerCompose

from tests.containers.conftest import ROOT, run

pytestmark = pytest.mark.containers

LISTENERS = "KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://kafka:29092"
KRAFT = "KAFKA_PROCESS_ROLES=broker,controller"


@pytest.mark.parametrize(
    ("service", "given", "missing"),
    [
        ("zookeeper", [], "ZOOKEEPER_CLIENT_PORT"),
        ("kafka", ["KAFKA_ZOOKEEPER_CONNECT=zookeeper:2181"], "KAFKA_ADVERTISED_LISTENERS"),
        ("kafka", [LISTENERS], "KAFKA_ZOOKEEPER_CONNECT"),
        ("kafka", [LISTENERS, KRAFT], "CLUSTER_ID"),
        ("schema-registry", ["SCHEMA_REGISTRY_KAFKASTORE_BOOTSTRAP_SERVERS=kafka:29092"], "SCHEMA_REGISTRY_HOST_NAME"),
        ("schema-registry", ["SCHEMA_REGISTRY_HOST_NAME=x"], "SCHEMA_REGISTRY_KAFKASTORE_BOOTSTRAP_SERVERS"),
    ],
)
@pytest.mark.usefixtures("images")
def test_a_server_refuses_to_start_without(service: str, given: list[str], missing: str) -> None:
    """It names the variable that is missing."""
    image = DockerCompose(ROOT, "docker-compose.yaml").get_config()["services"][service]["image"]
    environment = [flag for setting in given for flag in ("--env", setting)]

    done = run(["docker", "run", "--rm", *environment, image])

    assert done.returncode != 0
    assert missing in done.stdout + done.stderr
