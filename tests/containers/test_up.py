"""What can go wrong when everything is started: `make up` ends in time and says what to do."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.containers.conftest import ROOT, run

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

Up = Callable[..., CompletedProcess[str]]


@pytest.fixture
def up(environment: dict[str, str], tmp_path: Path) -> Iterator[Up]:
    """Run scripts/up.py on the shipped file with an overlay and settings of the test; what it started ends with it."""

    def start(overlay: str = "services: {}", **settings: str) -> CompletedProcess[str]:
        path = tmp_path / "overlay.yaml"
        path.write_text(overlay, "utf-8")
        files = f"docker-compose.yaml:{path}"
        return run([sys.executable, "scripts/up.py"], environment | {"COMPOSE_FILE": files} | settings, limit=150)

    yield start
    run(["docker", "compose", "down", "--volumes"], environment)


def test_docker_is_not_running(up: Up) -> None:
    """It says to start it."""
    done = up(DOCKER_HOST="unix:///nowhere/docker.sock")

    assert done.returncode == 2
    assert "up: start Docker" in done.stderr


def test_there_is_no_docker(up: Up) -> None:
    """It says to install it."""
    done = up(PATH="/nowhere")

    assert done.returncode == 2
    assert "up: there is no docker command here" in done.stderr


def test_a_port_is_taken(up: Up, environment: dict[str, str]) -> None:
    """It says which, and how to choose another."""
    port = environment["KAFKA_HOST_PORT"]
    with socket.create_server(("127.0.0.1", int(port))):
        done = up()

    assert done.returncode == 2
    assert f"up: something else uses port {port}: stop it, or set another …_HOST_PORT in .env" in done.stderr


def test_an_image_cannot_be_pulled(up: Up) -> None:
    """It says where the names are, and how to do without."""
    done = up(KAFKA_IMAGE="localhost:1/cp-kafka:7.9.6")

    assert done.returncode == 2
    assert "up: an image cannot be had: check the network, and the image names in .env" in done.stderr


def test_a_registry_never_becomes_healthy(up: Up) -> None:
    """As the shipped file would after two minutes; here the check is less patient."""
    done = up(
        """
        services:
          schema-registry:
            command: [sh, -c, "echo the registry is stuck; sleep 300"]
            stop_grace_period: 1s
            healthcheck: {start_period: 1s, retries: 2}
        """
    )

    assert done.returncode == 2
    assert "the registry is stuck" in done.stderr
    assert "up: a service does not become healthy, and what needs it was not started" in done.stderr


def test_a_server_ends_as_soon_as_it_is_started(up: Up) -> None:
    """Its restarts are not waited for; its log says why."""
    done = up('services: {schema-registry: {environment: {SCHEMA_REGISTRY_HOST_NAME: ""}}}')

    assert done.returncode == 2
    assert "SCHEMA_REGISTRY_HOST_NAME is required" in done.stderr
    assert "up: a service does not become healthy, and what needs it was not started" in done.stderr


def test_the_gate_refuses_the_contract(up: Up, environment: dict[str, str], tmp_path: Path) -> None:
    """The log names file and remedy, and nobody takes orders."""
    schemas = tmp_path / "schemas"
    shutil.copytree(ROOT / "schemas", schemas)
    edited = schemas / "order.avsc"
    edited.write_text(edited.read_text("utf-8").replace('"maxLength": 64', '"maxLength": 32', 1), "utf-8")
    tmp_path.chmod(0o755)

    done = up(
        f"services: {{register-schema: {{volumes: ['{schemas}:/schemas:ro'], environment: {{SCHEMAS_DIR: /schemas}}}}}}"
    )

    assert done.returncode == 2
    assert "order.avsc" in done.stderr
    assert "up: the contract was refused, so neither cook nor manager was started" in done.stderr
    running = run(["docker", "compose", "ps", "--services"], environment).stdout.split()
    assert {"cook", "manager"}.isdisjoint(running)
