"""The compose file that ships, started by testcontainers under a project name and ports of the tests' own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from testcontainers.compose import DockerCompose

from tests.restaurant import wait_until

ROOT = Path(__file__).parent.parent.parent
OURS = ("register-schema", "cook", "manager", "board")  # servers say so much that these would not be heard
LIMIT = 180.0  # seconds for a command, and for servers to be well again after a kill
PORTS = (
    "ZOOKEEPER_HOST_PORT",
    "KAFKA_HOST_PORT",
    "KAFKA_2_HOST_PORT",
    "KAFKA_3_HOST_PORT",
    "SCHEMA_REGISTRY_HOST_PORT",
    "BOARD_HOST_PORT",
)

Start = Callable[..., AbstractContextManager["Containers"]]


@dataclass(frozen=True)
class Containers:
    """The containers of one compose project, used as its README says."""

    docker: DockerCompose
    startup_seconds: float

    def compose(self, *arguments: str, limit: float = LIMIT) -> str:
        """Run a compose command that must succeed; gives its standard output."""
        done = self.try_compose(*arguments, limit=limit)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_compose(self, *arguments: str, limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
        """Run a compose command to its end."""
        return run([*self.docker.docker_compose_command(), *arguments], limit=limit)

    def waiter(self, *arguments: str, options: Sequence[str] = (), limit: float = LIMIT) -> str:
        """Run the waiter, who must succeed; gives what he prints."""
        return self.compose("run", "--rm", "--no-TTY", *options, "waiter", *arguments, limit=limit)

    def send_file(self, orders: Path, limit: float = LIMIT, **env: str) -> None:
        """Publish a file, patiently enough for a broker that is restarted meanwhile."""
        variables = {"DELIVERY_TIMEOUT": f"{LIMIT:g}", **env}
        options = ["--volume", f"{orders.parent}:/orders:ro"]
        options += [f"--env={name}={value}" for name, value in variables.items()]
        self.waiter("--orders", f"/orders/{orders.name}", options=options, limit=limit)

    def log(self, service: str) -> list[str]:
        """Give the lines that all containers of a service have printed."""
        return self.compose("logs", "--no-log-prefix", service).splitlines()

    def sentences(self, service: str = "cook") -> list[str]:
        """Give the orders that a service has announced in its log."""
        return [line for line in self.log(service) if line.startswith("Received an order")]

    def ledger(self, query: str) -> list[list[Any]]:
        """Ask the manager's ledger, from inside its container, for it may not be up for a while; nothing then."""
        code = (
            f"import json, sqlite3; print(json.dumps(sqlite3.connect('/data/ledger.db').execute({query!r}).fetchall()))"
        )
        done = self.try_compose("exec", "--no-TTY", "manager", "python", "-c", code)
        rows: list[list[Any]] = json.loads(done.stdout) if done.returncode == 0 else []
        return rows

    def recorded(self, file: Path) -> int:
        """Count the ledger's rows of one order file's pizzas; -1 while the ledger cannot be asked."""
        ((count,),) = self.ledger(f"SELECT count(*) FROM orders_by_field WHERE pizza = '{file.stem}'") or [[-1]]  # noqa: S608 - ours
        return int(count)

    def log_lines(self, file: Path) -> int:
        """Count the lines of log.txt about one order file's pizzas."""
        return int(self.compose("exec", "--no-TTY", "manager", "grep", "--count", f" {file.stem} ", "/data/log.txt"))

    def wait_until_recorded(self, file: Path, count: int) -> None:
        """Wait until the ledger holds so many rows of a file."""
        wait_until(lambda: self.recorded(file) >= count, LIMIT, f"{count} rows of {file.stem}")

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """Inspect the containers of a service, or of all."""
        ids = self.compose("ps", "--all", "--quiet", *([service] if service else [])).split()
        inspected: list[dict[str, Any]] = json.loads(run(["docker", "inspect", *ids]).stdout)
        return inspected

    def kill(self, service: str) -> None:
        """SIGKILL a service's process from the host, as the kernel would; `docker kill` counts as a stop by hand."""
        (container,) = self.containers(service)
        command = f"import os, signal; os.kill({container['State']['Pid']}, signal.SIGKILL)"
        image = self.image("cook")
        done = run(["docker", "run", "--rm", "--pid=host", "--user=0", image, "python", "-c", command])
        assert done.returncode == 0, done.stderr

    def restarts(self, service: str) -> int:
        """Count how often the engine has restarted a service's one container."""
        (container,) = self.containers(service)
        return int(container["RestartCount"])

    def wait_until_healthy(self) -> None:
        """Wait until every container that has a health check is healthy."""
        wait_until(
            lambda: all(
                container["State"]["Running"] and container["State"]["Health"]["Status"] == "healthy"
                for container in self.containers()
                if "Health" in container["State"]
            ),
            LIMIT,
            "health",
        )

    def image(self, service: str) -> str:
        """Give the image that a service runs from."""
        return str(self.docker.get_config()["services"][service]["image"])


def run(
    command: Sequence[str], env: Mapping[str, str] | None = None, limit: float = LIMIT
) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder to its end."""
    environment = os.environ | (env or {})
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit, check=False
    )


@pytest.fixture(scope="session")
def images() -> None:
    """Make sure that an engine answers and that every image is there; in CI it is a failure where it is not."""
    reason = _unavailable()
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def _unavailable() -> str:
    if shutil.which("docker") is None or run(["docker", "info"]).returncode:
        return "no Docker engine answers: install and start Docker"
    if run(["docker", "compose", "version"]).returncode:
        return "docker compose is missing: install Docker's compose plugin"
    services = DockerCompose(ROOT, "docker-compose.yaml").get_config()["services"]
    for name in ("zookeeper", "kafka", "schema-registry"):
        image = services[name]["image"]
        if run(["docker", "image", "inspect", image]).returncode:
            pulled = run(["docker", "pull", "--quiet", image], limit=600)
            if pulled.returncode:
                return f"{image} cannot be pulled ({pulled.stderr.strip()}); .ci/images/build makes stand-ins"
    return ""


@pytest.fixture
def environment(images: None) -> dict[str, str]:  # noqa: ARG001 - they must be there first
    """Variables that keep a project of the tests apart from every other."""
    return own_environment()


def own_environment() -> dict[str, str]:
    """Give a project name of its own and ports that nobody uses."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = {name: str(server.getsockname()[1]) for name, server in zip(PORTS, sockets, strict=True)}
    for server in sockets:
        server.close()
    return {"COMPOSE_PROJECT_NAME": f"restaurant-test-{uuid.uuid4().hex[:8]}"} | ports


@pytest.fixture(scope="session")
def start_containers(
    images: None,  # noqa: ARG001 - they must be there first
    tmp_path_factory: pytest.TempPathFactory,
) -> Start:
    """Start the shipped compose file from nothing, with overlays and settings; what is started ends with its block."""

    @contextmanager
    def start(*overlays: str, **settings: str) -> Iterator[Containers]:
        path = tmp_path_factory.mktemp("compose") / ".env"
        own = (ROOT / ".env").read_text("utf-8") if (ROOT / ".env").exists() else ""
        lines = (f"{name}={value}\n" for name, value in (own_environment() | settings).items())
        path.write_text(own + "".join(lines), "utf-8")
        files = ["docker-compose.yaml", *(f"docker-compose.{overlay}.yaml" for overlay in overlays)]
        docker = DockerCompose(ROOT, files, build=True, env_file=str(path))
        began = time.monotonic()
        try:
            docker.start()
            yield Containers(docker, time.monotonic() - began)
        except subprocess.CalledProcessError as error:
            said = [
                error.stderr.decode()[-2000:],
                "".join(docker.get_logs())[-4000:],
                "".join(docker.get_logs(*OURS))[-8000:],
            ]
            pytest.fail("docker compose up: " + "\n".join(said))
        finally:
            # The waiter's volume goes only with the waiter's profile.
            run([*docker.docker_compose_command(), "--profile", "waiter", "down", "--volumes"])

    return start


@pytest.fixture
def write_orders(tmp_path: Path) -> Callable[[str, int], Path]:
    """Write a file of so many orders for forty tables, whose pizza is the file's name."""

    def write(pizza: str, count: int) -> Path:
        path = tmp_path / f"{pizza}.jsonl"
        path.write_text("".join(f'{{"pizza":"{pizza}","table":{n % 40 + 1}}}\n' for n in range(count)), "utf-8")
        tmp_path.chmod(0o755)
        path.chmod(0o644)
        return path

    return write
