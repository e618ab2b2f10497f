"""What of the dead letters' command needs no servers."""

from __future__ import annotations

import pytest

from consumers.dead_letters import main


def test_a_reason_that_is_none_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """As a person types them."""
    with pytest.raises(SystemExit) as refused:
        main(["replay", "manager", "--reason", "nonsense"])
    assert refused.value.code == 2
    told = capsys.readouterr().err
    assert "invalid choice: 'nonsense' (choose from 'not-framed', 'too-short', " in told
    assert "Reason." not in told
