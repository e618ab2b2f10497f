"""The health check of a container, where there is nobody to ask."""

from __future__ import annotations

import pytest

from runtime.health import main


@pytest.mark.parametrize("port", ["", "many"])
def test_without_a_usable_port_a_service_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    monkeypatch.setenv("METRICS_PORT", port)
    assert main() == 1
    assert capsys.readouterr().err.startswith("health: ")
