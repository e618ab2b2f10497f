"""The edge of every command: arguments, settings, signals, and errors as one sentence with an exit code."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from threading import Event
from types import FrameType

from contract.errors import Forbidden, PipelineError, StorageUnavailable, Unavailable
from runtime.settings import Settings, add_settings, load_settings
from runtime.telemetry import configure_logging

log = logging.getLogger(__name__)

OK, FAILED, COULD_NOT_RUN = 0, 1, 2

_OUTPUT_ERRORS = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What printing may raise; that of files and sockets is turned into our errors where it is raised."""


def create_parser(program: str, description: str, example: str) -> ArgumentParser:
    """Make a parser whose help ends with an example."""
    parser = ArgumentParser(
        program, description=description, epilog=f"example: {example}", formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    return parser


def run_command(
    parser: ArgumentParser, body: Callable[[Namespace, Settings], int], arguments: Sequence[str] | None = None
) -> int:
    """Parse, read the settings, run, and give the exit code; what a user can cause ends in a sentence."""
    add_settings(parser)
    flags = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, until somebody asks for stop_on_signals
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal's encoding lacks must not end anybody
            stream.reconfigure(errors="backslashreplace")
    settings = Settings(log_format="json" if os.environ.get("LOG_FORMAT") == "json" else "text")
    try:
        configure_logging(settings)
        settings = load_settings(os.environ, flags)
        configure_logging(settings)
        return _flushed(body(flags, settings))
    except StorageUnavailable as error:
        return _fail(parser, str(error), error.exit_code)
    except (Unavailable, Forbidden) as error:
        servers = f"broker {settings.kafka_bootstrap_servers}, registry {settings.schema_registry_url}"
        advice = "; start them, or set KAFKA_BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL"
        todo = advice if isinstance(error, Unavailable) else ""
        return _fail(parser, f"{error} ({servers}){todo}", error.exit_code)
    except PipelineError as error:
        return _fail(parser, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(parser, "interrupted", FAILED)
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS or error.filename is not None:
            raise
        # Python would try once more at exit, and complain in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sentence = f"standard output cannot be written: {error.strerror}"
        # Whoever closed a pipe has read enough.
        return FAILED if isinstance(error, BrokenPipeError) else _fail(parser, sentence, COULD_NOT_RUN)


def _flushed(code: int) -> int:
    """Write what is printed and not yet written, which Python would do at exit, and fail in its own words."""
    if sys.stdout is not None:  # as it is where it was closed
        sys.stdout.flush()
    return code


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, `1 letter` or `2 letters`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def stop_on_signals() -> Event:
    """Give an event that SIGTERM or Ctrl-C sets; a second one ends the process at once."""
    stop = Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop


def _fail(parser: ArgumentParser, sentence: str, exit_code: int) -> int:
    log.error("%s: %s", parser.prog, sentence)
    return exit_code


class _Version(Action):
    """Prints the version of what is installed; a package's metadata are only read when somebody asks."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        from importlib.metadata import entry_points  # noqa: PLC0415 - see above

        ours = (
            one for one in entry_points(group="console_scripts") if one.value.startswith(("producer.", "consumers."))
        )
        print(parser.prog, next((one.dist.version for one in ours if one.dist), "(not installed)"))
        parser.exit()
