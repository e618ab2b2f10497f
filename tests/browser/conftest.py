"""The real board in a real browser, on a broker and a registry of its own, which a test may stop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from stack.local import LocalStack
from tests.restaurant import Restaurant, Service, wait_until
from tests.servers import running

CHROMIUM = "chromium"
WIDE, NARROW = (1440, 900), (390, 844)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A broker and a registry."""
    with running(LocalStack(tmp_path_factory.mktemp("stack"))) as stack:
        yield stack


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or whichever the PATH has."""
    program = shutil.which(CHROMIUM) or shutil.which("google-chrome")
    if program is None:
        assert not os.environ.get("CI"), "no browser"
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def restaurant(stack: LocalStack, tmp_path: Path) -> Iterator[Restaurant]:
    """A restaurant with a topic of two partitions, whose contract is registered."""
    opened = Restaurant(tmp_path, stack.bootstrap_servers, stack.registry_url, partitions=2)
    assert opened.register().returncode == 0
    yield opened
    opened.close()


@pytest.fixture
def board(restaurant: Restaurant) -> Service:
    """The board of this restaurant, as a process."""
    service = restaurant.start("board", {"BOARD_PORT": "0"})
    service.wait_for_lines(1)
    return service


@pytest.fixture
def open_page(browser: Browser, board: Service) -> Iterator[Callable[..., Page]]:
    """Open the board in a window, light or dark; what the browser complains of fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_one(scheme: str = "light", size: tuple[int, int] = WIDE) -> Page:
        width, height = size
        context = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": height}
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(board.lines()[0].split()[-1])
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(open_page: Callable[..., Page], restaurant: Restaurant) -> Page:
    """The board as it is while a topic is there and nothing has been ordered."""
    restaurant.make_topic()
    page = open_page()
    wait_until(lambda: page.locator("#status").inner_text() == "Live", what="a live board")
    return page
