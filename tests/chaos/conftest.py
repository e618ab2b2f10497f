"""A broker and a registry of our own, which tests kill, and restaurants whose sessions lapse soon."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.local import LocalStack
from tests.chaos.scene import LONG, Scene
from tests.servers import running

SEED = int(os.environ.get("CHAOS_SEED", "1"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, and give the long run its time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.chaos)
            if LONG:
                item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random moments that CHAOS_SEED repeats, as far as processes can be made to."""
    return random.Random(f"{SEED} {request.node.name}")  # noqa: S311 - nobody's secret


@pytest.fixture(scope="session")
def session_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One stack for the session."""
    properties = {"group.min.session.timeout.ms": "1000"}
    with running(LocalStack(tmp_path_factory.mktemp("stack"), properties=properties)) as stack:
        yield stack


@pytest.fixture
def stack(session_stack: LocalStack) -> LocalStack:
    """The stack, with both servers running, whatever the test before did to them."""
    session_stack.start()
    return session_stack


@pytest.fixture
def open_scene(stack: LocalStack, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """Make scenes of so many partitions; whatever they started ends with the test."""
    opened: list[Scene] = []

    def open_one(partitions: int = 3) -> Scene:
        directory = tmp_path / f"scene-{len(opened)}"
        directory.mkdir()
        scene = Scene(directory, stack.bootstrap_servers, stack.registry_url, partitions)
        opened.append(scene)
        registered = scene.register()
        assert registered.returncode == 0, registered.stderr
        scene.make_topic()
        return scene

    yield open_one
    for scene in opened:
        scene.kill_all()


@pytest.fixture
def scene(open_scene: Callable[..., Scene]) -> Scene:
    """A restaurant of three partitions, whose contract is registered."""
    return open_scene()
