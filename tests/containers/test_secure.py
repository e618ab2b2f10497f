"""The locked overlay: every container comes up as the principal that it is, and an order goes through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers.conftest import LIMIT, ROOT, Start, run
from tests.restaurant import wait_until

pytestmark = [
    pytest.mark.containers,
    pytest.mark.secure,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("SECURE"), reason="takes two minutes: make test-secure"),
]


def test_an_order_goes_through_the_locked_overlay(start_containers: Start, tmp_path: Path) -> None:
    """And no secret is in a log, in the rendered configuration or in an image."""
    secrets = tmp_path / "secrets"
    make = [sys.executable, "scripts/dev_certificates.py", "--directory", str(secrets)]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    with start_containers("kraft", "secure", SECRETS_DIR=str(secrets)) as containers:
        assert containers.waiter("margherita", "17") == "message published on partition 0 with offset 0\n"
        wait_until(lambda: len(containers.sentences()) == 1, LIMIT, "a sentence")
        wait_until(lambda: containers.ledger("SELECT count(*) FROM orders") == [[1]], LIMIT, "a row")
        ours = {"cook", "manager", "board", "proxy", "apply-acls", "register-schema"}
        for container in containers.containers():
            host = container["HostConfig"]
            published = [place["HostIp"] for places in host["PortBindings"].values() for place in places]
            assert set(published) <= {"127.0.0.1"}
            if container["Config"]["Labels"]["com.docker.compose.service"] in ours:
                assert host["ReadonlyRootfs"]
                assert host["CapDrop"] == ["ALL"]
                assert "no-new-privileges:true" in host["SecurityOpt"]
                assert container["Config"]["User"] == "10001:10001"
        said = containers.compose("logs") + containers.compose("config") + json.dumps(containers.containers())
        said += "".join(
            run(["docker", "history", "--no-trunc", containers.image(one)]).stdout for one in ("cook", "proxy")
        )
        known = [
            path.read_text("utf-8").rpartition(":")[2]
            for path in [*secrets.glob("*.password"), *secrets.glob("*.registry"), *secrets.glob("*.token")]
        ]
        assert len(known) == 13
        assert [secret for secret in known if secret in said] == []
