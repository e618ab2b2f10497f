"""Starts the compose file until everything is healthy; where that fails, adds to Docker's words what to do about it."""

from __future__ import annotations

import re
import subprocess
import sys

COMPOSE = ("docker", "compose")
WAIT_LIMIT = 300  # seconds for all to become healthy; the health checks themselves give up sooner
OK, COULD_NOT_RUN = 0, 2

ADVICE = {
    r"is not a docker command|unknown shorthand flag|unknown flag": "install Docker's compose plugin, 2.24 or newer",
    r"Cannot connect to the Docker daemon|permission denied .*docker\.sock": "start Docker, or join the group docker",
    r":(\d+): bind: address already in use|:(\d+) failed: port is already allocated|not available.*:(\d+)": (
        "something else uses port {0}: stop it, or set another …_HOST_PORT in .env (see .env.example)"
    ),
    r"no such host|pull access denied|manifest.*(?:unknown|not found)|failed to resolve reference|/v2/": (
        "an image cannot be had: check the network, and the image names in .env; where nothing can be pulled, "
        ".ci/images/build makes them here (docs/containers.md)"
    ),
    r'"register-schema" didn\'t complete': "the contract was refused, so neither cook nor manager was started",
    r"is unhealthy|exited \(|not healthy after": "a service does not become healthy, and what needs it was not started",
}


def main() -> int:
    """Run `docker compose up`; exit 0 when all is healthy, else 2, within minutes."""
    try:
        said, exit_code = _run("up", "--build", "--wait", "--wait-timeout", str(WAIT_LIMIT))
    except FileNotFoundError:
        print("up: there is no docker command here; install Docker with its compose plugin", file=sys.stderr)
        return COULD_NOT_RUN
    if exit_code == OK:
        return OK
    _show_failed_logs()
    print("up:", _advice(said), file=sys.stderr)
    return COULD_NOT_RUN


def _run(*arguments: str) -> tuple[str, int]:
    """Run compose, pass on what it says while it says it, and give that and the exit code."""
    said = []
    with subprocess.Popen([*COMPOSE, *arguments], stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - constants
        for line in process.stderr or ():
            sys.stderr.write(line)
            said.append(line)
    return "".join(said), process.returncode


def _advice(said: str) -> str:
    for pattern, sentence in ADVICE.items():
        if found := re.search(pattern, said):
            return sentence.format(*filter(None, found.groups()))
    return "what Docker says above came unexpected; docker compose ps --all shows how far it got"


def _show_failed_logs() -> None:
    """Show the last lines of each service that is unhealthy, starts again and again, or has ended with an error."""
    listed = subprocess.run(  # noqa: S603 - constants
        [*COMPOSE, "ps", "--all", "--format", "{{.Service}} {{.State}} {{.ExitCode}} {{.Health}}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    for service, state, exit_code, *health in map(str.split, listed.stdout.splitlines()):
        if health == ["unhealthy"] or state == "restarting" or exit_code != "0":
            print(f"up: {service} is {' '.join([state, *health])}; its log ends:", file=sys.stderr, flush=True)
            subprocess.run([*COMPOSE, "logs", "--tail", "20", service], stdout=sys.stderr, check=False)  # noqa: S603 - our own


if __name__ == "__main__":
    sys.exit(main())
