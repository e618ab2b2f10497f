"""The edge of a command: exit codes, one sentence for each error, settings from flags."""

import logging
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator

import pytest

from contract.errors import (
    ContractError,
    Forbidden,
    LedgerError,
    NotDelivered,
    NotRegistered,
    PipelineError,
    RecordFileError,
    Refused,
    SettingError,
    TopicError,
    Unavailable,
)
from runtime.command import create_parser, run_command, stop_on_signals
from runtime.settings import Settings

Body = Callable[[Namespace, Settings], int]


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of whoever runs the tests, and logging as it was."""
    for name in [name for name in os.environ if name.startswith(("KAFKA_", "SCHEMA_REGISTRY_"))]:
        monkeypatch.delenv(name)
    before = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = before


def run(body: Body, *arguments: str) -> int:
    """Run a command that is all edge."""
    return run_command(create_parser("thing", "Does a thing.", "thing --fast"), body, arguments)


def failing(error: BaseException) -> Body:
    """Give a body that raises."""

    def body(_flags: Namespace, _settings: Settings) -> int:
        raise error

    return body


def test_the_body_gets_flags_and_settings_and_gives_the_exit_code() -> None:
    seen: list[Settings] = []

    def body(_flags: Namespace, settings: Settings) -> int:
        seen.append(settings)
        return 1

    assert run(body, "--kafka-bootstrap-servers", "flag:1", "--request-timeout", "2.5") == 1
    assert (seen[0].kafka_bootstrap_servers, seen[0].request_timeout) == ("flag:1", 2.5)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingError, 2),
        (ContractError, 2),
        (NotRegistered, 2),
        (RecordFileError, 2),
        (TopicError, 2),
        (LedgerError, 2),
        (Refused, 2),
        (NotDelivered, 1),
    ],
)
def test_an_error_is_one_sentence_and_its_exit_code(
    error: type[PipelineError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(failing(error("it is so"))) == code
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "thing: it is so\n")


@pytest.mark.parametrize(
    ("error", "todo"),
    [(Unavailable, "; start them, or set KAFKA_BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL"), (Forbidden, "")],
)
def test_an_error_of_the_servers_names_them_without_their_secrets(
    error: type[PipelineError], todo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "http://me:hunter2@r:8081")
    assert run(failing(error("no answer")), "--kafka-bootstrap-servers", "b:9092") == 2
    assert capsys.readouterr().err == f"thing: no answer (broker b:9092, registry http://me:***@r:8081){todo}\n"


def test_a_secret_in_an_errors_sentence_is_taken_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hunter2")
    assert run(failing(TopicError("broker says hunter2 is wrong"))) == 2
    assert capsys.readouterr().err == "thing: broker says *** is wrong\n"


def test_an_interrupt_ends_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing(KeyboardInterrupt())) == 1
    assert capsys.readouterr().err == "thing: interrupted\n"


def test_a_bad_setting_ends_before_the_body_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing(AssertionError("the body ran")), "--topic-partitions", "0") == 2
    assert capsys.readouterr().err == "thing: TOPIC_PARTITIONS is '0': expected int >= 1\n"


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@r",
        "https://r:8081,https://me:hunter2@s/path",
        "http://hunter2@r",
        "http://me:hunter/2@r",
        "me:hunter2@r:8081",
    ],
)
@pytest.mark.parametrize("flag", ["--schema-registry-url={}", "--schema-reg={}"])
def test_credentials_in_a_flag_are_refused_and_the_variable_is_named(
    flag: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list of processes shows every user what a flag says."""
    assert run(failing(AssertionError("the body ran")), flag.format(url)) == 2
    said = capsys.readouterr().err
    assert "thing: --schema-registry-url holds credentials" in said
    assert "set SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO" in said
    assert "hunter" not in said


def test_an_address_without_credentials_is_taken_from_a_flag() -> None:
    seen: list[str] = []

    def body(_flags: Namespace, settings: Settings) -> int:
        seen.append(settings.schema_registry_url)
        return 0

    assert run(body, "--schema-registry-url", "http://r:8081/apis,http://s") == 0
    assert seen == ["http://r:8081/apis,http://s"]


def test_the_boards_token_has_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(failing(AssertionError("the body ran")), "--board-token", "x")
    assert "unrecognized arguments: --board-token" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--no-such-flag",), ("too", "many")])
def test_bad_arguments_exit_with_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(failing(AssertionError("the body ran")), *arguments)
    assert ended.value.code == 2


def test_help_lists_every_setting_and_ends_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(failing(AssertionError("the body ran")), "--help")
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "KAFKA_BOOTSTRAP_SERVERS, default localhost:9092" in " ".join(shown.split())
    for name in Settings.__struct_fields__[:-2]:
        assert (f"--{name.replace('_', '-')} " in shown) == (name != "board_token"), "a secret has no flag"
    assert shown.rstrip().endswith("example: thing --fast")


def test_a_reader_that_went_away_ends_quietly() -> None:
    """As `waiter … | head -1` does: no BrokenPipeError on the terminal."""
    body = "lambda flags, settings: [print('x' * 999, flush=True) for _ in range(9999)] and 0"
    code = (
        "import sys; from runtime.command import create_parser, run_command; "
        f"sys.exit(run_command(create_parser('thing', '', ''), {body}, []))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event_and_a_second_one_ends_the_process(number: signal.Signals) -> None:
    code = (
        "import os, sys; from runtime.command import stop_on_signals; stop = stop_on_signals(); "
        f"os.kill(os.getpid(), {number}); print(stop.wait(10), flush=True); os.kill(os.getpid(), {number}); "
        "print('still here')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "True\n"
    assert run.returncode == -number


def test_the_event_is_not_set_at_first() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert not stop_on_signals().is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
