"""DATA_DIR: who may have it, and what in it is never followed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.errors import SettingError
from runtime.data_dir import check_data_dir, check_file, open_data_dir, open_file

STRANGER = 12_345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to somebody else")


def mode(path: Path) -> int:
    """Return a path's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct, autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever the shell's umask is."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that is ours."""
    made = tmp_path / "data"
    open_data_dir(made)
    return made


def test_what_is_made_is_for_us_alone(tmp_path: Path) -> None:
    """The directories on the way as well: who may write there may put another one in its place."""
    open_data_dir(tmp_path / "a" / "b")
    os.close(open_file(tmp_path / "a" / "b" / "file", os.O_RDWR | os.O_CREAT))
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/file")] == [0o700, 0o700, 0o600]


def test_what_is_there_keeps_its_mode(directory: Path) -> None:
    (directory / "file").touch()
    (directory / "file").chmod(0o644)
    directory.chmod(0o755)
    open_data_dir(directory)
    os.close(open_file(directory / "file", os.O_RDWR | os.O_CREAT))
    assert (mode(directory), mode(directory / "file")) == (0o755, 0o644)


@pytest.mark.parametrize("bits", [0o777, 0o1777, 0o757, 0o702], ids=oct)
def test_one_that_everybody_can_write_is_refused_with_the_command(directory: Path, bits: int) -> None:
    directory.chmod(bits)
    with pytest.raises(SettingError, match="can be written by everybody") as refused:
        open_data_dir(directory)
    assert f"run: chmod go-w {directory}, or set DATA_DIR to another directory" in str(refused.value)
    subprocess.run(["chmod", "go-w", str(directory)], check=True)
    open_data_dir(directory)


def test_the_command_can_be_pasted(tmp_path: Path) -> None:
    directory = tmp_path / "it's; data"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(SettingError) as refused:
        open_data_dir(directory)
    command = str(refused.value).partition("run: ")[2].partition(", or set")[0]
    subprocess.run(["sh", "-c", command], check=True)
    open_data_dir(directory)


@as_root
def test_one_that_another_group_can_write_is_refused(directory: Path) -> None:
    os.chown(directory, 0, STRANGER)
    directory.chmod(0o775)
    with pytest.raises(SettingError, match=f"can be written by group {STRANGER}, none of ours, .*run: chmod go-w"):
        open_data_dir(directory)
    directory.chmod(0o755)
    open_data_dir(directory)


@as_root
@pytest.mark.parametrize("group", [0, STRANGER], ids=["its own", "supplementary"])
def test_one_that_a_group_of_ours_can_write_is_taken(
    directory: Path, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes' fsGroup makes a volume: of root, and of a supplementary group that may write."""
    monkeypatch.setattr(os, "getgroups", lambda: [STRANGER])
    os.chown(directory, 0, group)
    directory.chmod(0o2775)
    open_data_dir(directory)


@as_root
def test_one_of_somebody_else_is_refused(directory: Path) -> None:
    os.chown(directory, STRANGER, 0)
    with pytest.raises(SettingError, match=f"belongs to user {STRANGER}, .*run: chown {os.geteuid()} {directory}"):
        open_data_dir(directory)


def test_a_link_to_it_is_followed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(directory)
    open_data_dir(tmp_path / "link")


@as_root
def test_a_link_to_it_that_somebody_else_has_made_is_refused(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(directory)
    os.lchown(tmp_path / "link", STRANGER, 0)
    with pytest.raises(SettingError, match=f"belongs to user {STRANGER}"):
        open_data_dir(tmp_path / "link")


def test_what_is_no_directory_cannot_be_made_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        open_data_dir(tmp_path / "file")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "dangling", tmp_path / "dangling" / "data"):
        with pytest.raises(FileExistsError):
            open_data_dir(path)
    with pytest.raises(FileNotFoundError):
        check_data_dir(tmp_path / "nowhere")


def _give_away(path: Path) -> None:
    path.touch()
    os.chown(path, STRANGER, 0)


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (lambda path: path.symlink_to(path.parent.parent / "precious"), r"symbolic link.*run: rm "),
        (lambda path: path.symlink_to(path.parent.parent / "nothing"), r"symbolic link"),
        (lambda path: path.hardlink_to(path.parent.parent / "precious"), r"2 names \(hard links\).*run: find / -xdev"),
        (os.mkfifo, "no regular file"),
        (Path.mkdir, "no regular file"),
        pytest.param(_give_away, f"belongs to user {STRANGER}.*run: chown ", marks=as_root),
    ],
    ids=["link", "dangling link", "hard link", "pipe", "directory", "somebody else's"],
)
def test_what_is_planted_is_refused_and_left_alone(
    directory: Path, tmp_path: Path, plant: Callable[[Path], object], why: str
) -> None:
    """A pipe would be waited for without end."""
    precious, planted = tmp_path / "precious", directory / "log.txt"
    precious.write_text("precious")
    plant(planted)
    for refuse in (check_file, lambda path: open_file(path, os.O_WRONLY | os.O_CREAT)):
        with pytest.raises(SettingError, match=why):
            refuse(planted)
    assert precious.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


@as_root
def test_who_is_not_root_takes_what_is_roots() -> None:
    """Root could do everything anyway, and a volume of an orchestrator is root's."""
    code = (
        "import os, sys; from pathlib import Path; from runtime.data_dir import open_data_dir; os.setgroups([]); "
        f"os.setgid({STRANGER}); os.setuid({STRANGER}); open_data_dir(Path(sys.argv[1])); open_data_dir(Path('/tmp'))"
    )
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        run = subprocess.run([sys.executable, "-c", code, directory], capture_output=True, text=True, check=False)
    assert "DATA_DIR /tmp can be written by everybody" in run.stderr
    assert f"DATA_DIR {directory}" not in run.stderr
