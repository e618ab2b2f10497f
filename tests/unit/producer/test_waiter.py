"""A single order that may have arrived, and cannot be kept."""

import os
from argparse import ArgumentParser
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from contract.errors import NotDelivered
from producer import waiter
from runtime.settings import Settings
from runtime.topics import Servers


def test_it_is_named_although_keeping_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a second Ctrl-C, while a disk is slow."""

    def is_interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    parser = ArgumentParser()
    waiter.add_arguments(parser)
    monkeypatch.setattr(waiter, "create_producer", lambda *_, **__: None)
    monkeypatch.setattr(waiter, "publish_order", is_interrupted)
    monkeypatch.setattr(os, "fsync", is_interrupted)
    expected = r'cannot be kept, as keeping it was interrupted; .* save the line \{.*"pizza":"napoli".*\} as a file'
    with pytest.raises(NotDelivered, match=expected):
        waiter.run(parser.parse_args(["napoli", "3"]), Settings(data_dir=tmp_path), lambda: cast(Servers, None), Event)
