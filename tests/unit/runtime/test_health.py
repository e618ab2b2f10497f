"""Whether a service is alive, told by a file that its loop touches."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from contract.errors import SettingError
from runtime.health import LIMIT_SECONDS, Heartbeat, main


def test_a_loop_that_turns_is_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTH_FILE", str(tmp_path / "health"))
    Heartbeat(tmp_path / "health").beat()
    assert main() == 0


def test_a_loop_that_has_not_turned_for_long_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEALTH_FILE", str(tmp_path / "health"))
    assert main() == 1
    Heartbeat(tmp_path / "health").beat()
    long_ago = time.time() - LIMIT_SECONDS - 5
    os.utime(tmp_path / "health", (long_ago, long_ago))
    assert main() == 1
    assert "has not turned for 35 s" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"HEALTH_FILE .* cannot be written"):
        Heartbeat(tmp_path / "nowhere" / "health").beat()


def test_without_a_file_nothing_is_written() -> None:
    Heartbeat(None).beat()
