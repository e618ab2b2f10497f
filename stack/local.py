"""Starts real Kafka and a real schema registry on this machine without containers, for people and for tests.

    python -m stack.local up|down

All that one stack has, its data, logs, settings and pid files, is in one folder. The data stays over `down` and `up`;
`rm -r .stack/data` in between empties both servers together, for an id in a message means nothing to a registry that
has forgotten it. `pom.xml` names the versions.
"""

import argparse
import fcntl
import hashlib
import http.client
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

POM = Path(__file__).with_name("pom.xml")
HOME = Path(__file__).resolve().parent.parent / ".stack"
JAVA = 17
INSTALL = "apt-get install openjdk-17-jre-headless maven"
START_LIMIT = 180.0
STOP_LIMIT = 20.0
FETCH_LIMIT = 900.0


class StackError(Exception):
    """The servers could not be started or stopped; says why, and what to do."""


class NotInstalledError(StackError):
    """Java or Maven is missing or too old; says what to install."""


def main(argv: Sequence[str] | None = None, kind: "type[LocalStack] | None" = None) -> int:
    """Run the command; return its exit code, 2 when the servers could not be started or stopped."""
    kind = kind or LocalStack
    parser = argparse.ArgumentParser(prog=f"python -m {kind.module}", description="Kafka and a schema registry.")
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--directory", type=Path, default=kind.home, help="of data, logs and settings (%(default)s)")
    kafka, registry = kind.ports
    parser.add_argument("--kafka-port", type=port_number, default=kafka, metavar="PORT", help="(%(default)s)")
    parser.add_argument("--registry-port", type=port_number, default=registry, metavar="PORT", help="(%(default)s)")
    options = parser.parse_args(argv)
    stack = kind(options.directory, kafka_port=options.kafka_port, registry_port=options.registry_port)
    try:
        with _alone(stack.directory / "lock"):
            (_up if options.action == "up" else _down)(stack)
    except (StackError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 2
    return 0


def port_number(text: str) -> int:
    """Return a port; raises ValueError, which argparse tells the user of."""
    if (number := int(text)) not in range(65_536):
        raise ValueError(text)
    return number


def _up(stack: "LocalStack") -> None:
    already = all(server.pid for server in stack.servers)
    stack.start()
    for name, settings in stack.settings().items():
        lines = (f"export {variable}={shlex.quote(value)}\n" for variable, value in settings.items())
        (stack.directory / name).write_text("".join(lines))
    print(f"{'running already' if already else 'running'}: {stack.bootstrap_servers} and {stack.registry_url}")
    for name in stack.settings():
        print(f"to use them in this shell: . {shlex.quote(os.path.relpath(stack.directory / name))}")


def _down(stack: "LocalStack") -> None:
    running = [server.name for server in stack.servers if server.pid]
    stack.stop()
    for name in stack.settings():
        (stack.directory / name).unlink(missing_ok=True)
    print(f"stopped: {' and '.join(running)}" if running else "nothing is running")


class LocalStack:
    """One Kafka node and one registry on loopback, whose data, logs, settings and pid files are in `directory`.

    Port 0 is a free one, kept over restarts. `properties` go over those of Kafka's `server.properties`. `programs` is
    where Maven puts what `pom.xml` names, once for all stacks; `kafka_kind` is another node than `Kafka`.
    As a context manager it starts and stops both.
    """

    module = "stack.local"
    home = HOME
    ports = (9092, 8081)
    """Kafka's and the registry's, where nobody says others."""

    def __init__(
        self,
        directory: Path,
        *,
        kafka_port: int = 0,
        registry_port: int = 0,
        properties: Mapping[str, str] | None = None,
        programs: Path = HOME,
        kafka_kind: "type[Kafka] | None" = None,
    ) -> None:
        self.directory = directory.resolve()
        self.kafka = (kafka_kind or Kafka)(self.directory, kafka_port, programs, properties or {})
        self.registry = Registry(self.directory, registry_port, programs)
        self.servers: tuple[Server, ...] = (self.registry, self.kafka)
        self.bootstrap_servers = f"localhost:{self.kafka.port}"
        self.registry_url = f"http://localhost:{self.registry.port}{Registry.PATH}"

    def settings(self) -> Mapping[str, Mapping[str, str]]:
        """Give the files that a shell reads, by name, and what they set."""
        return {"env": {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers, "SCHEMA_REGISTRY_URL": self.registry_url}}

    def start(self) -> None:
        """Start what does not run and return when both answer; on an error what this started is stopped again.

        Raises StackError: Java or Maven missing, a port in use, a server that ends or does not answer in time.
        """
        idle = [server for server in self.servers if not server.pid]
        for server in idle:
            server.check()
        try:
            for server in idle:
                server.launch()
            for server in self.servers:
                server.wait()
        except BaseException:
            for server in idle:
                server.stop()
            raise

    def stop(self) -> None:
        """Stop both; fine when neither runs."""
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Server:
    """A process that outlives the one that started it; any later one finds it again by its pid file.

    It is Java's, unless `check` and `_command` say otherwise.
    """

    name: str
    pom = POM
    """Names what Maven is to fetch for it."""

    def __init__(self, directory: Path, port: int, programs: Path) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.programs = programs
        self.log = directory / f"{self.name}.log"
        self.pid_file = directory / f"{self.name}.pid"
        self._mark = f"-Dstack.pid={self.pid_file}"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None: a pid file outlives a crash, and its number is used again."""
        if self._child and self._child.poll() is None:
            return self._child.pid
        try:
            pid = int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self._mark in _command_line(pid) else None

    def start(self) -> None:
        """Start it unless it runs, and return when it answers; raises StackError."""
        if not self.pid:
            self.check()
            self.launch()
        self.wait()

    def stop(self) -> None:
        """End it, by force if it takes longer than STOP_LIMIT."""
        self._end(signal.SIGTERM)
        self.kill()
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)
        if pid := self.pid:
            raise StackError(f"{self.name} (process {pid}) does not end")

    def check(self) -> None:
        """Raise StackError where it cannot be started: no Java, no Maven to fetch it, its port in use."""
        find_java()
        fetch(self.programs, self.pom)
        self.check_port()

    def check_port(self) -> None:
        """Raise StackError when its port is in use."""
        if not _is_free(self.port):
            raise StackError(f"port {self.port} is not free for {self.name}: end what has it (lsof -i :{self.port})")

    def launch(self) -> None:
        """Start it without waiting for it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = self._command()
        with self.log.open("ab") as log:
            # In a session of its own, since a Ctrl-C in the terminal is not meant for it.
            self._child = subprocess.Popen(  # noqa: S603 - arguments of our own
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pid_file.write_text(str(self._child.pid))

    def wait(self) -> None:
        """Return when it answers; raises StackError when it has ended or START_LIMIT has passed."""
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            ended = not self.pid
            if ended or time.monotonic() > deadline:
                failure = "has ended" if ended else f"does not answer on port {self.port} in {START_LIMIT:.0f} s"
                lines = self.log.read_text(errors="replace").splitlines()
                last = [line for line in lines if not line.startswith("\tat ")][-10:]
                raise StackError("\n".join([f"{self.name} {failure}; {self.log} ends with:", *last]))
            time.sleep(0.05)

    def _end(self, number: signal.Signals) -> None:
        pid = self.pid
        if not pid:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + STOP_LIMIT
        # A process has no command line any more a little before its port is free.
        while (self.pid or not _is_free(self.port)) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _command(self) -> list[str]:
        """Write the server's files; return what runs it, with its mark in it."""
        java = find_java()
        return [java, self._mark, *self._arguments(java)]

    def _arguments(self, java: str) -> list[str]:
        """Write the server's files; return Java's arguments. Paths in `directory` are relative to it."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether it serves requests; takes a second or two at most."""
        raise NotImplementedError


class Kafka(Server):
    """One node, broker and controller in one (KRaft)."""

    name = "kafka"

    def __init__(self, directory: Path, port: int, programs: Path, properties: Mapping[str, str]) -> None:
        super().__init__(directory, port, programs)
        self.properties = properties

    def _arguments(self, java: str) -> list[str]:
        controller = f"127.0.0.1:{free_port()}"  # a new one each time: only the node itself uses it
        properties = {**self._defaults(controller), **self.properties}
        lines = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self.directory / "server.properties").write_text(lines)
        (self.directory / "log4j.properties").write_text(
            "log4j.rootLogger=WARN, stdout\n"
            "log4j.logger.kafka.server.KafkaRaftServer=INFO\n"
            "log4j.appender.stdout=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.stdout.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.stdout.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n\n"
        )
        program = ["-Dlog4j.configuration=file:log4j.properties", "-cp", f"{fetch(self.programs)}/kafka/*"]
        if not (self.directory / "data/kafka/meta.properties").exists():
            cluster = f"--cluster-id={secrets.token_urlsafe(16)}"
            tool = ["kafka.tools.StorageTool", "format", "--config=server.properties", cluster]
            run_quietly([java, *program, *tool], self.directory, "Kafka's storage could not be formatted")
        return ["-Xmx512m", *program, "kafka.Kafka", "server.properties"]

    def _defaults(self, controller: str) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://localhost:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": "data/kafka",
            "auto.create.topics.enable": "false",
            # After a crash the node waits for its former self's session to lapse, 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "log.cleaner.dedupe.buffer.size": "16777216",  # 128 MB of the heap by default
        }

    def _client(self) -> dict[str, str]:
        """Give the properties of a client that may ask for the brokers."""
        return {"bootstrap.servers": f"localhost:{self.port}"}

    def _answers(self) -> bool:
        config: dict[str, str | int | float | bool] = {
            **self._client(),
            "reconnect.backoff.max.ms": 100,
            "log_level": 0,  # or each refused connection is a line on standard error
        }
        try:
            # It is in its own list once the controller lets it serve.
            return bool(AdminClient(config).list_topics(timeout=1).brokers)
        except KafkaException:
            return False


class Registry(Server):
    """Apicurio Registry, which speaks Confluent's API below PATH."""

    name = "registry"
    PATH = "/apis/ccompat/v7"

    def _arguments(self, java: str) -> list[str]:  # noqa: ARG002 - Kafka needs it
        properties = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self.port,
            # An upgrade to HTTP/2 makes a tunnel of the connection, in which a proxy before it filters nothing. Quarkus
            # obeys this without TLS from 3.27 on; until then it is the proxy alone that lets no upgrade through.
            "quarkus.http.http2": "false",
            "quarkus.http.access-log.enabled": "false",
            "quarkus.banner.enabled": "false",
            'quarkus.log.category."io.apicurio".level': "WARN",
            # In memory by default. Without WRITE_DELAY=0 a crash soon after a registration forgets it, and its id,
            # which messages may hold by then, goes to another schema.
            "apicurio.datasource.url": "jdbc:h2:file:./data/registry;WRITE_DELAY=0",
        }
        settings = [f"-D{name}={value}" for name, value in properties.items()]
        (jar,) = (fetch(self.programs) / "registry").glob("*-runner.jar")
        # Level 1 of the compiler starts a second sooner, and the registry has little to do.
        return ["-Xmx512m", "-XX:TieredStopAtLevel=1", *settings, "-jar", str(jar)]

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("localhost", self.port, timeout=2)
        try:
            connection.request("GET", f"{self.PATH}/subjects")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def find_java() -> str:
    """Return the path of a `java` that is new enough, `JAVA_HOME`'s first; raises NotInstalledError."""
    path = os.environ.get("PATH", "")
    if home := os.environ.get("JAVA_HOME"):
        path = f"{home}/bin{os.pathsep}{path}"
    java = shutil.which("java", path=path)
    if not java:
        raise NotInstalledError(f"Java {JAVA} or newer is needed, and there is none: {INSTALL}")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30).stderr  # noqa: S603 - no input
    version = re.search(r'version "(\d+)[^"]*"', said)
    if not version or int(version[1]) < JAVA:
        found = version[0] if version else "no Java that runs"
        raise NotInstalledError(f"Java {JAVA} or newer is needed, {java} is {found}: {INSTALL}")
    return java


def fetch(programs: Path, pom: Path = POM) -> Path:
    """Return the folder in `programs` with all that a `pom.xml` names, which Maven fills once for each of them.

    Raises NotInstalledError without Maven, StackError when Maven fails.
    """
    fetched = programs.resolve() / f"programs-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if fetched.is_dir():
        return fetched
    maven = shutil.which("mvn")
    if not maven:
        raise NotInstalledError(f"Maven is needed to fetch the servers, and there is none: {INSTALL}")
    with _alone(programs / "fetch.lock"), tempfile.TemporaryDirectory(dir=fetched.parent) as folder:
        if not fetched.is_dir():
            print(f"fetching what {pom.name} names with Maven, some 160 MB, once", file=sys.stderr)
            command = [maven, "-q", "-B", "-f", str(pom), "package", f"-Dstack={folder}/new"]
            run_quietly(command, Path(folder), f"Maven could not fetch what {pom} names")
            Path(folder, "new").rename(fetched)
    return fetched


def free_port() -> int:
    """Return a free port of loopback.

    It is below those that systems give to outgoing connections (from 32768): a client that tries a server again and
    again while that is down could else be given the server's own port, and keep the server out.
    """
    while not _is_free(port := 20_000 + secrets.randbelow(12_000)):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as server:
        # As servers do: closed connections that linger do not count.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True


def _command_line(pid: int) -> str:
    """Return a process's command line, empty when there is no such process."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False, timeout=30).stdout  # noqa: S603 - a number


def run_quietly(command: Sequence[str], cwd: Path, failure: str, env: Mapping[str, str] | None = None) -> None:
    """Run a command in silence; raises StackError with the end of its output."""
    try:
        done = subprocess.run(  # noqa: S603 - arguments of our own
            command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=FETCH_LIMIT
        )
    except subprocess.TimeoutExpired:
        raise StackError(f"{failure} in {FETCH_LIMIT:.0f} s") from None
    if done.returncode:
        raise StackError(f"{failure}:\n{(done.stdout + done.stderr).strip()[-2000:]}")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait for other processes in here: two that start the same servers would overwrite each other's pid files."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
