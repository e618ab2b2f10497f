"""Where what is not acknowledged can be kept, asked before anything is sent."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import SettingError
from producer.undelivered import check_place


def _open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def _below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


def _link_to_what_is_open_to_all(path: Path) -> None:
    _open_to_all(path.with_name("open"))
    path.symlink_to("open")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "open to all": (_open_to_all, "can be written by everybody, .* run: chmod go-w "),
    "a link to what is": (_link_to_what_is_open_to_all, "can be written by everybody"),
    "a file": (Path.touch, "as .*/above/data is no directory; nothing was sent: set DATA_DIR to a directory that"),
    "below a file": (_below_a_file, "as .*/above is no directory; nothing was sent"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "as .*/above/data is no directory; nothing was"),
    "a link to itself": (lambda path: path.symlink_to(path), "as .*/above/data is no directory; nothing was sent"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A path at which nothing is, in a directory of ours."""
    (tmp_path / "above").mkdir()
    return tmp_path / "above" / "data"


@pytest.mark.parametrize("what", REFUSED)
def test_a_place_where_nothing_can_be_kept(place: Path, what: str) -> None:
    make, sentence = REFUSED[what]
    make(place)
    with pytest.raises(SettingError, match=f"DATA_DIR {re.escape(str(place))} .*{sentence}"):
        check_place(place)


def test_a_place_that_we_may_not_write(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right is asked for what is there: of a directory that is to be made, the one above."""
    asked: list[tuple[Path, int]] = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append((path, mode)))
    with pytest.raises(SettingError, match=f"as {re.escape(str(place.parent))} cannot be written; nothing was sent"):
        check_place(place / "deeper")
    assert asked == [(place.parent, os.W_OK | os.X_OK)]


def test_a_place_that_is_yet_to_be_made_is_not_made(place: Path) -> None:
    check_place(place / "deeper")
    assert not place.exists()
    place.mkdir(0o700)
    check_place(place)
    assert [*place.iterdir()] == []


def test_a_path_without_a_directory_is_one_below_the_current(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.parent)
    check_place(Path("data"))
    check_place(Path())
