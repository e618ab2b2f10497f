"""DATA_DIR: a directory that nobody else can write to, and files in it that are its own.

What is in it is opened by name, by SQLite too. Whoever could put a link under such a name could have us overwrite any
file that we may write, so that the directory is refused, and so is a link that is there all the same.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from contract.errors import SettingError


def open_data_dir(directory: Path) -> None:
    """Make the directory, with mode 0700, or check the one that is there, whose mode is left as it is.

    Raises SettingError as `check_data_dir` does, and OSError when it cannot be made.
    """
    for one in reversed([directory, *directory.parents]):  # Path.mkdir gives its mode to the last one only
        try:
            if not one.is_dir():
                one.mkdir(0o700)
        except FileExistsError:
            if not one.is_dir():  # else another process has made it
                raise
    check_data_dir(directory)


def check_data_dir(directory: Path) -> None:
    """Raise SettingError when somebody else can write to the directory, owns it, or has made the link to it.

    "Somebody else" is no member of a group of ours, as Kubernetes' fsGroup makes one, and not root. Raises OSError when
    there is no such directory.
    """
    found, link = directory.stat(), directory.lstat()
    for one, chown, path in ((found, "chown", directory.resolve()), (link, "chown -h", directory)):
        if one.st_uid not in _ours():
            raise SettingError(
                f"DATA_DIR {path} belongs to user {one.st_uid}, who could have this process overwrite other files; run "
                f"this as that user, or {_command(chown, os.geteuid(), path)}, or set DATA_DIR to another directory"
            )
    by_group = found.st_mode & stat.S_IWGRP and found.st_gid not in {os.getegid(), *os.getgroups()}
    if found.st_mode & stat.S_IWOTH or by_group:
        who = "everybody," if found.st_mode & stat.S_IWOTH else f"group {found.st_gid}, none of ours,"
        raise SettingError(
            f"DATA_DIR {directory} can be written by {who} who could have this process overwrite other files; "
            f"{_command('chmod', 'go-w', directory)}, or set DATA_DIR to another directory"
        )


def check_file(path: Path) -> None:
    """Raise SettingError unless a file of DATA_DIR is absent, or a regular file of one name that is ours or root's.

    For what a library opens; only those who may write to the directory can change it between this and the opening.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise SettingError(f"{path} is a symbolic link, and is not followed; {_command('rm', path)}")
    if not stat.S_ISREG(found.st_mode):
        raise SettingError(f"{path} is no regular file; move it away, or set DATA_DIR to another directory")
    if found.st_nlink > 1:
        raise SettingError(
            f"{path} has {found.st_nlink} names (hard links), and another directory may share it; remove the others; "
            f"to find them, {_command('find / -xdev -samefile', path)}"
        )
    if found.st_uid not in _ours():
        raise SettingError(
            f"{path} belongs to user {found.st_uid}; run this as that user, or {_command('chown', os.geteuid(), path)}"
        )


def open_file(path: Path, flags: int) -> int:
    """Return a descriptor of a file of DATA_DIR; one that is made has mode 0600.

    Raises SettingError as `check_file` does, and OSError.
    """
    check_file(path)
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _ours() -> set[int]:
    return {os.geteuid(), 0}


def _command(*words: object) -> str:
    """Return what to type, as `run: chmod go-w data`; the last word is a path."""
    return f"run: {' '.join(map(str, words[:-1]))} {shlex.quote(str(words[-1]))}"
