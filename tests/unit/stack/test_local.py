"""What the stack does where it cannot start, or must not touch a process: no server is needed to see it."""

import subprocess
import sys
from pathlib import Path

import pytest

from stack.local import LocalStack, NotInstalledError, StackError, main


@pytest.fixture
def stack(tmp_path: Path) -> LocalStack:
    """A stack that has never run and whose programs have not been fetched."""
    return LocalStack(tmp_path / "stack", kafka_port=9092, registry_port=8081, programs=tmp_path / "programs")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder in which commands are found, empty at first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def command(file: Path, script: str) -> None:
    """Write a command."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def java(folder: Path, version: str) -> None:
    """Put a `java` there that says it is of that version."""
    command(folder / "java", f"""echo 'openjdk version "{version}" 2025-04-15' >&2""")


@pytest.mark.parametrize("port", ["-1", "65536", "9" * 30, "nan"])
def test_a_port_that_is_none(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever runs already."""
    for flag in ("--kafka-port", "--registry-port"):
        with pytest.raises(SystemExit):
            main(["up", flag, port])
        assert f"invalid port_number value: '{port}'" in capsys.readouterr().err


def test_no_java(tmp_path: Path) -> None:
    """Without Java the command says what to install, in one line, and exits with 2."""
    run = subprocess.run(
        [sys.executable, "-m", "stack.local", "up", "--directory", tmp_path],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    install = "apt-get install openjdk-17-jre-headless maven"
    assert run.stderr == f"error: Java 17 or newer is needed, and there is none: {install}\n"
    assert run.returncode == 2


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.22", "16.0.2"])
def test_old_java(stack: LocalStack, path: Path, version: str) -> None:
    """An older Java is named with its version, and with what to install."""
    java(path, version)
    with pytest.raises(NotInstalledError, match=rf'is version "{version}": apt-get install openjdk-17-jre'):
        stack.start()


def test_java_that_does_not_run(stack: LocalStack, path: Path) -> None:
    """A `java` that only says it is not installed, as macOS has one, counts as none."""
    command(path / "java", "echo 'Unable to locate a Java Runtime.' >&2; exit 1")
    with pytest.raises(NotInstalledError, match="no Java that runs"):
        stack.start()


def test_java_home(stack: LocalStack, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Java of JAVA_HOME is taken rather than an older one in the path."""
    java(path, "11.0.22")
    (path / "home").mkdir()
    java(path / "home" / "bin", "17.0.15")
    monkeypatch.setenv("JAVA_HOME", str(path / "home"))
    with pytest.raises(NotInstalledError, match="Maven is needed"):
        stack.start()


def test_no_maven(stack: LocalStack, path: Path) -> None:
    """With Java but without Maven, its package is named."""
    java(path, "17.0.15")
    with pytest.raises(NotInstalledError, match=r"Maven is needed .*: apt-get install .* maven$"):
        stack.start()


def test_maven_fails(stack: LocalStack, path: Path) -> None:
    """When Maven fails its own words are shown, and nothing half-made is kept."""
    java(path, "17.0.15")
    command(path / "mvn", "echo 'Could not transfer artifact'; exit 1")
    with pytest.raises(StackError, match=r"could not fetch what .*pom\.xml names:\nCould not transfer artifact"):
        stack.start()
    assert [file.name for file in stack.kafka.programs.iterdir()] == ["fetch.lock"]


@pytest.mark.parametrize("content", ["", "kafka", "-1", "0", "999999999"])
def test_stale_pid_file(stack: LocalStack, content: str) -> None:
    """A pid file that names no process means that the server does not run."""
    stack.directory.mkdir()
    stack.kafka.pid_file.write_text(content)
    assert stack.kafka.pid is None


def test_pid_of_another_program(stack: LocalStack) -> None:
    """A program that has got the pid of a server that crashed is not signalled."""
    stack.directory.mkdir()
    with subprocess.Popen(["sleep", "60"]) as other:
        stack.kafka.pid_file.write_text(str(other.pid))
        stack.kafka.kill()
        stack.stop()
        assert other.poll() is None
        other.kill()


def test_down_when_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to stop, which is fine."""
    assert main(["down", "--directory", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing is running\n"


def test_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the system refuses is an error in its words, not a traceback."""
    (tmp_path / "file").touch()
    assert main(["up", "--directory", str(tmp_path / "file" / "stack")]) == 2
    assert capsys.readouterr().err.startswith("error: [Errno")
