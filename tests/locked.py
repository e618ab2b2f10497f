"""A restaurant on a locked stack: each command is run as the principal that is named."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka.admin import AdminClient

from contract.subjects import SCHEMAS
from runtime.clients import common_properties
from runtime.settings import load_settings
from stack.secure import SecureStack
from tests.restaurant import Restaurant, Service

TOPIC = "pizza-order"


@dataclass
class Locked(Restaurant):
    """The restaurant with the contract as it ships, each command as the principal that is named."""

    stack: SecureStack = field(kw_only=True)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.topic = TOPIC
        self.schemas = self.directory / "schemas"
        self.data = self.directory / "data"
        shutil.copytree(SCHEMAS, self.schemas)

    def run_as(self, name: str, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as a principal."""
        done = self.run(*command, env=self.settings(name) | settings)
        self.said += [done.stdout, done.stderr]
        return done

    def start_as(self, name: str) -> Service:
        """Start a consumer as the principal of its name."""
        return self.start(name, env=self.settings(name))

    def settings(self, name: str) -> dict[str, str]:
        """Give what makes a command known as a principal, patient for as long as a test is."""
        return {**self.stack.settings()[f"{name}.env"], "STARTUP_TIMEOUT": "20"}

    def properties(self, name: str) -> dict[str, Any]:
        """Give the properties of a client of another make, with a principal's own credentials."""
        return common_properties(load_settings(self.environment(self.settings(name)))) | {"log_level": 0}

    @property
    def admin(self) -> AdminClient:
        """The one who may do everything on the broker."""
        return AdminClient(self.properties("admin"))
