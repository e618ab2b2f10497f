"""What unit tests share: no sockets, a registry in this process, and a contract that a test may spoil."""

import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from confluent_kafka.schema_registry import Schema, ServerConfig
from confluent_kafka.schema_registry.common.schema_registry_client import SchemaVersion
from confluent_kafka.schema_registry.error import SchemaRegistryError

from contract.subjects import SCHEMAS, Contract, Subject, load_contract
from runtime.embedded import EmbeddedRegistry


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that connects or binds a socket, also where the code under test swallows the error."""
    attempts: list[str] = []

    def refuse(name: str) -> Any:
        def refusing(_self: socket.socket, *arguments: object) -> NoReturn:
            attempts.append(f"{name}{arguments}")
            raise AssertionError(f"a unit test opens no sockets: {name}{arguments}")

        return refusing

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    yield
    assert not attempts


class CountingRegistry(EmbeddedRegistry):
    """The demo's registry in this process, which here also keeps configurations and notes the calls that matter."""

    def __init__(self) -> None:
        super().__init__({"url": "mock://unit"})
        self.calls: list[tuple[str, Any]] = []
        self.configurations: dict[str | None, ServerConfig] = {}

    @property
    def counts(self) -> Counter[str]:
        """How often each method was called."""
        return Counter(name for name, _ in self.calls)

    def get_schema(self, schema_id: int, *arguments: Any, **keywords: Any) -> Schema:
        self.calls.append(("get_schema", schema_id))
        return super().get_schema(schema_id, *arguments, **keywords)

    def get_schema_versions(self, schema_id: int, *arguments: Any, **keywords: Any) -> list[SchemaVersion]:
        self.calls.append(("get_schema_versions", schema_id))
        return super().get_schema_versions(schema_id, *arguments, **keywords)

    def lookup_schema(self, subject_name: str, *arguments: Any, **keywords: Any) -> Any:
        self.calls.append(("lookup_schema", subject_name))
        return super().lookup_schema(subject_name, *arguments, **keywords)

    def register_schema(self, subject_name: str, schema: Schema, normalize_schemas: bool = False) -> int:  # noqa: FBT001, FBT002 - as it is
        self.calls.append(("register_schema", (subject_name, schema.schema_str)))
        return super().register_schema(subject_name, schema, normalize_schemas)

    def set_config(self, subject_name: str | None = None, config: ServerConfig | None = None) -> ServerConfig:
        assert config is not None
        self.calls.append(("set_config", (subject_name, config.compatibility)))
        self.configurations[subject_name] = config
        return config

    def get_config(self, subject_name: str | None = None) -> ServerConfig:
        if subject_name not in self.configurations:
            raise SchemaRegistryError(404, 40408, "Subject does not have subject-level compatibility configured")
        return self.configurations[subject_name]


@pytest.fixture
def registry() -> CountingRegistry:
    """An empty registry."""
    return CountingRegistry()


@pytest.fixture
def subject() -> Subject:
    """The subject that the project ships."""
    return load_contract().subjects["pizza-order-value"]


@pytest.fixture
def registered(registry: CountingRegistry, subject: Subject) -> CountingRegistry:
    """A registry that holds every released version, the first with id 2: ids are not versions."""
    registry.register_schema("another-value", Schema('"string"', "AVRO"))
    for version in subject.released:
        registry.register_schema(subject.name, Schema(version.text, "AVRO"))
    registry.calls.clear()
    return registry


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """A copy of `schemas/` to be changed."""
    return Path(shutil.copytree(SCHEMAS, tmp_path / "schemas"))


@pytest.fixture
def contract(schemas: Path) -> Contract:
    """The contract of that copy."""
    return load_contract(schemas)
