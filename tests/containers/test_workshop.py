"""The workshop in containers: everything up from nothing, then what it tells a reader to look for, word for word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.containers.conftest import Containers, Start, run
from tests.restaurant import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

STARTUP_LIMIT = 120.0  # seconds, as the README says; the images are there by then
SENTENCE = "Received an order for a pizza margherita at table 17 !"
OURS = ["register-schema", "cook", "manager"]
SERVERS = ["zookeeper", "kafka", "schema-registry"]


@dataclass(frozen=True)
class Workshop:
    """The restaurant after the workshop's two orders."""

    containers: Containers
    published: list[str]


@pytest.fixture(scope="module")
def workshop(start_containers: Start) -> Iterator[Workshop]:
    """The shipped compose file from nothing, and the waiter run twice."""
    with start_containers() as containers:
        yield Workshop(containers, [containers.waiter("margherita", "17") for _ in range(2)])


def only(workshop: Workshop, service: str) -> dict[str, Any]:
    """Inspect the one container of a service."""
    (container,) = workshop.containers.containers(service)
    return container


def test_everything_is_healthy_within_the_time_that_the_readme_states(workshop: Workshop) -> None:
    """From nothing but the images."""
    assert workshop.containers.startup_seconds < STARTUP_LIMIT
    workshop.containers.wait_until_healthy()


@pytest.mark.parametrize("service", [*SERVERS, "cook", "manager"])
def test_every_server_and_service_has_a_health_check(workshop: Workshop, service: str) -> None:
    """So that what depends on it can wait, and a person can see."""
    assert only(workshop, service)["State"]["Health"]["Status"] == "healthy"


def test_kafka_says_that_it_has_started(workshop: Workshop) -> None:
    """`docker compose logs kafka | grep -i started` finds a line."""
    assert any("started" in line.lower() for line in workshop.containers.log("kafka"))


def test_the_first_order_has_offset_0_and_the_second_offset_1(workshop: Workshop) -> None:
    """Word for word, and nothing else on standard output."""
    assert workshop.published == [
        "message published on partition 0 with offset 0\n",
        "message published on partition 0 with offset 1\n",
    ]


def test_the_cook_says_which_orders_it_received(workshop: Workshop) -> None:
    """`docker compose logs cook` shows the sentence."""
    wait_until(lambda: workshop.containers.sentences() == [SENTENCE, SENTENCE], what="the cook's sentence, twice")


def test_the_manager_writes_them_to_the_log_in_its_volume(workshop: Workshop) -> None:
    """`docker compose exec manager cat /data/log.txt` shows it too."""

    def log() -> list[str]:
        return workshop.containers.compose("exec", "--no-TTY", "manager", "cat", "/data/log.txt").splitlines()

    wait_until(lambda: log() == [SENTENCE, SENTENCE], what="two lines in log.txt")
    assert [mount["Type"] for mount in only(workshop, "manager")["Mounts"]] == ["volume"]


@pytest.mark.parametrize("service", OURS)
def test_our_containers_run_without_root_and_without_rights(workshop: Workshop, service: str) -> None:
    """Non-root, read-only root, no capability, none to be gained."""
    container = only(workshop, service)
    assert container["Config"]["User"] == "10001:10001"
    assert container["HostConfig"]["ReadonlyRootfs"]
    assert container["HostConfig"]["CapDrop"] == ["ALL"]
    assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", ["cook", "manager"])
def test_a_service_tells_its_metrics_to_its_network_alone(workshop: Workshop, service: str) -> None:
    """Whoever scrapes is a container beside them; the port is not published."""
    code = f"from urllib.request import urlopen; print(urlopen('http://{service}:9100/metrics').read().decode())"
    told = workshop.containers.compose("exec", "--no-TTY", "cook", "python", "-c", code)
    assert f'consumer_ready{{group="{service}",topic="pizza-order"}} 1.0' in told
    assert not only(workshop, service)["NetworkSettings"]["Ports"].get("9100/tcp")


@pytest.mark.parametrize("service", ["cook", "manager"])
def test_a_services_log_lines_are_objects(workshop: Workshop, service: str) -> None:
    """But for the cook's sentences, which are its results."""
    lines = [line for line in workshop.containers.log(service) if line != SENTENCE]
    assert lines
    assert all(json.loads(line)["message"] for line in lines)


def test_nothing_can_be_written_to_the_root_file_system(workshop: Workshop) -> None:
    """Read-only is what the kernel says, too."""
    done = workshop.containers.try_compose("exec", "--no-TTY", "cook", "touch", "/app/scripts/x")
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("service", ["cook", "manager"])
def test_a_service_that_is_stopped_leaves_its_group_and_exits_0(workshop: Workshop, service: str) -> None:
    """SIGTERM reaches Python: no shell is between."""
    try:
        workshop.containers.compose("stop", service)
        assert only(workshop, service)["State"]["ExitCode"] == 0
        last = json.loads(workshop.containers.log(service)[-1])
        assert last["message"].endswith("gives back partitions [0]")
    finally:
        workshop.containers.compose("start", service)
        workshop.containers.wait_until_healthy()


def test_ports_are_published_on_loopback_only(workshop: Workshop) -> None:
    """Nobody else on the network reaches servers without passwords."""
    addresses = {
        address["HostIp"]
        for container in workshop.containers.containers()
        for published in container["NetworkSettings"]["Ports"].values()
        for address in published or ()
    }
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize("service", [*SERVERS, *OURS])
def test_memory_and_logs_are_bounded(workshop: Workshop, service: str) -> None:
    """One service cannot take the machine's memory or fill its disk."""
    settings = only(workshop, service)["HostConfig"]
    assert 0 < settings["Memory"] <= 1024**3
    assert settings["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}


@pytest.mark.parametrize("service", [*SERVERS, "cook", "manager"])
def test_what_should_run_is_restarted(workshop: Workshop, service: str) -> None:
    """After a crash and after the engine's own restart."""
    assert only(workshop, service)["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


@pytest.mark.parametrize("service", ["zookeeper", "kafka", "manager"])
def test_data_is_in_volumes_with_names(workshop: Workshop, service: str) -> None:
    """Anonymous ones would be lost with `down`."""
    volumes = [mount["Name"] for mount in only(workshop, service)["Mounts"] if mount["Type"] == "volume"]
    project = only(workshop, service)["Config"]["Labels"]["com.docker.compose.project"]
    assert volumes
    assert all(volume.startswith(project) for volume in volumes)


def test_a_wrong_order_is_refused_in_a_sentence(workshop: Workshop) -> None:
    """Exit code and message come through `docker compose run`."""
    done = workshop.containers.try_compose("run", "--rm", "--no-TTY", "waiter", "margherita", "0")
    assert done.returncode == 2
    assert "table" in done.stderr
    assert "Traceback" not in done.stderr


def test_our_image_runs_beside_servers_that_it_did_not_come_with(workshop: Workshop) -> None:
    """With a few variables and no compose file, as docs/containers.md shows it."""
    cook = only(workshop, "cook")
    (network,) = cook["NetworkSettings"]["Networks"]
    known = [
        line for line in cook["Config"]["Env"] if line.startswith(("KAFKA_BOOTSTRAP_SERVERS=", "SCHEMA_REGISTRY_URL="))
    ]
    servers = [f"--network={network}", *(f"--env={line}" for line in known)]
    image = workshop.containers.image("cook")
    registered = run(["docker", "run", "--rm", *servers, image, "python", "scripts/register_schema.py"])
    assert registered.stdout.endswith("pizza-order-value version 2 id 2 was there already\n"), registered.stderr
    metrics = ["--env=METRICS_PORT=9100", "--env=METRICS_HOST=0.0.0.0"]
    started = run(["docker", "run", "--detach", *servers, *metrics, image, "cook"]).stdout.strip()
    try:
        healthy = ["docker", "exec", started, "python", "-m", "runtime.health"]
        wait_until(lambda: run(healthy).returncode == 0, what="a cook that is healthy")
    finally:
        run(["docker", "rm", "--force", started])
