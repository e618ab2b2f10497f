"""The one place that reads the environment; a frozen value goes to everything else.

`KAFKA_…` names a librdkafka property (`KAFKA_SASL_PASSWORD` is `sasl.password`), `SCHEMA_REGISTRY_…` one of the
registry client's. Both also take a file's content as `…_FILE`, as secrets are mounted. Flags win over the environment,
but hold no secret: every user of the machine sees them in the list of processes.
"""

from __future__ import annotations

import difflib
import logging
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from msgspec import Meta

from contract.errors import SettingError
from contract.subjects import MOST, SCHEMAS

log = logging.getLogger(__name__)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set from outside; each field's name in capitals is its environment variable."""

    kafka_bootstrap_servers: Annotated[str, Meta(description="brokers to ask first, host:port, comma-separated")] = (
        "localhost:9092"
    )
    schema_registry_url: Annotated[str, Meta(description="the schema registry, with its path if it has one")] = (
        "http://localhost:8081"
    )
    data_dir: Annotated[Path, Meta(description="where ledger.db and log.txt are kept")] = Path("data")
    schemas_dir: Annotated[Path, Meta(description="the contract: subjects.yaml and the schemas")] = SCHEMAS
    topic_partitions: (
        Annotated[int, Meta(ge=1, le=MOST, description="partitions of a topic that is made; else subjects.yaml's")]
        | None
    ) = None
    topic_replication: (
        Annotated[int, Meta(ge=1, le=MOST, description="replicas of a topic that is made; else subjects.yaml's")] | None
    ) = None
    startup_timeout: Annotated[
        float, Meta(gt=0, le=86_400, description="seconds to wait for broker and registry at start")
    ] = 30.0
    request_timeout: Annotated[
        float, Meta(ge=0.1, le=300, description="seconds that one call of broker or registry may take")
    ] = 10.0
    delivery_timeout: Annotated[
        float, Meta(ge=0.1, le=86_400, description="seconds until an unacknowledged record counts as not delivered")
    ] = 30.0
    dead_letter_limit: Annotated[int, Meta(ge=1, description="dead letters in a row after which a consumer stops")] = (
        100
    )
    metrics_port: (
        Annotated[int, Meta(ge=0, le=65_535, description="port of /metrics, /healthz and /readyz; 0 takes a free one")]
        | None
    ) = None
    metrics_host: Annotated[str, Meta(description="address that METRICS_PORT is opened on")] = "127.0.0.1"
    board_host: Annotated[str, Meta(description="address that the board listens on")] = "127.0.0.1"
    board_port: Annotated[int, Meta(ge=0, le=65_535, description="port of the board; 0 takes a free one")] = 8000
    board_token: (
        Annotated[str, Meta(min_length=1, description="what a browser must show to the board, once, as ?token=")] | None
    ) = None
    board_open: Annotated[bool, Meta(description="let who has no token look from other machines, too")] = False
    log_level: Annotated[
        str, Meta(pattern="^(?i:DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR")
    ] = "INFO"
    log_format: Annotated[
        str, Meta(pattern="^(text|json)$", description="text, for people, or json, one object a line")
    ] = "text"

    kafka: Mapping[str, str] = {}
    """librdkafka properties from `KAFKA_…`."""
    registry: Mapping[str, str] = {}
    """Properties of the registry's client from `SCHEMA_REGISTRY_…`."""

    def __repr__(self) -> str:
        """Show no value: any of them may be a secret or hold one."""
        return f"{type(self).__name__}(…)"

    @property
    def secrets(self) -> frozenset[str]:
        """Every value that must not be shown."""
        urls = f"{self.schema_registry_url},{self.registry.get('proxy', '')}"
        return frozenset(
            value
            for value in (
                self.board_token or "",
                # A pattern, for what cannot be parsed as an address may still hold a password.
                *re.findall(r"//[^/@:,]*:([^,]*)@", urls),
                *(value for name, value in (*self.kafka.items(), *self.registry.items()) if is_secret(name)),
            )
            if value
        )

    def redact(self, text: str) -> str:
        """Give a text with every secret replaced."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


# What README's promises rest on: the value is decided in runtime/clients.py.
_PROMISES: Mapping[str, tuple[str, ...]] = {
    "every record is acknowledged by all in-sync replicas": ("acks", "request.required.acks"),
    "a record is written once, in order": ("enable.idempotence",),
    "an offset is committed only after its record was handled": (
        "enable.auto.commit",
        "auto.commit.enable",
        "enable.auto.offset.store",
    ),
    "no record is skipped": ("auto.offset.reset",),
    "records of an aborted transaction are not read": ("isolation.level",),
    "a group reads with the version that subjects.yaml gives it": ("group.id",),
    "one key is always in one partition, whichever client wrote it": ("partitioner",),
    "every member of a group must use the same": ("partition.assignment.strategy",),
    "topics are made with the partitions that subjects.yaml says": ("allow.auto.create.topics",),
    "transactions are not used": ("transactional.id",),
    "it is DELIVERY_TIMEOUT": ("message.timeout.ms", "delivery.timeout.ms"),
    "a killed member's partitions are taken over within 15 s": ("session.timeout.ms", "heartbeat.interval.ms"),
    "the loop does not expect such events": ("enable.partition.eof",),
    "records stay in order": ("queuing.strategy",),
    "it is KAFKA_BOOTSTRAP_SERVERS": ("metadata.broker.list",),
    "a mock cluster keeps nothing": ("test.mock.num.brokers",),
}
PROTECTED = {name: promise for promise, names in _PROMISES.items() for name in names}
# Only for "did you mean": librdkafka has no call that lists its properties. A test keeps each of them known to it.
COMMON = (
    "bootstrap.servers", "client.id", "client.rack", "compression.codec", "compression.type", "debug",
    "fetch.max.bytes", "fetch.min.bytes", "fetch.wait.max.ms", "group.instance.id",
    "linger.ms", "max.poll.interval.ms", "message.max.bytes", "metadata.max.age.ms", "queue.buffering.max.messages",
    "queued.min.messages", "sasl.mechanism", "sasl.mechanisms", "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret", "sasl.oauthbearer.method", "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url", "sasl.password", "sasl.username", "security.protocol",
    "socket.timeout.ms", "ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location",
    "ssl.certificate.pem", "ssl.endpoint.identification.algorithm", "ssl.key.location", "ssl.key.password",
    "ssl.key.pem", "ssl.keystore.location", "ssl.keystore.password",
)  # fmt: skip
REGISTRY = frozenset(
    {
        "ssl.ca.location", "ssl.key.location", "ssl.key.password", "ssl.certificate.location", "basic.auth.user.info",
        "bearer.auth.credentials.source", "bearer.auth.token", "bearer.auth.client.id", "bearer.auth.client.secret",
        "bearer.auth.scope", "bearer.auth.issuer.endpoint.url", "bearer.auth.logical.cluster",
        "bearer.auth.identity.pool.id", "proxy",
    }
)  # fmt: skip
# Java's sasl.jaas.config is here although no client takes it: librdkafka knows it, to refuse it.
_SECRET = re.compile(
    r"(password|passphrase|secret|token|oauthbearer\.config|user\.info|\.pem|sasl\.jaas|proxy)(?!.*\.(url|location)$)"
)
_OWN = frozenset(name for name in Settings.__struct_fields__ if name not in {"kafka", "registry"})


def load_settings(environ: Mapping[str, str], flags: Namespace | None = None) -> Settings:
    """Read settings from the environment, then the flags that were given.

    Raises SettingError, which names the variable and what it must be, never its value if that may be a secret.
    """
    given: dict[str, Any] = {name: environ[name.upper()] for name in _OWN if environ.get(name.upper())}
    if "board_token" not in given and (path := environ.get("BOARD_TOKEN_FILE")):
        given["board_token"] = _read_secret("BOARD_TOKEN_FILE", path)
    flagged = {name: value for name, value in vars(flags or Namespace()).items() if name in _OWN and value is not None}
    if "@" in flagged.get("schema_registry_url", ""):
        raise SettingError(
            "--schema-registry-url holds credentials, which every user of this machine sees in the list of processes: "
            "leave them out, and set SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO, or SCHEMA_REGISTRY_URL instead of the flag"
        )
    given |= flagged
    given["kafka"] = _properties(environ, "KAFKA_", _is_known, COMMON)
    given["registry"] = _properties(environ, "SCHEMA_REGISTRY_", REGISTRY.__contains__, REGISTRY)
    for name in sorted(PROTECTED.keys() & given["kafka"].keys()):
        raise SettingError(f"KAFKA_{name.replace('.', '_').upper()} cannot be set: {PROTECTED[name]}; unset it")
    try:
        return msgspec.convert(given, Settings, strict=False, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        limit, _, name = str(error).replace("`", "").partition(" - at $.")
        raise SettingError(f"{name.upper()} is {given.get(name)!r}: {limit[0].lower()}{limit[1:]}") from None


def add_settings(parser: ArgumentParser) -> None:
    """Give a parser one flag for each setting that is no secret, named after its environment variable."""
    group = parser.add_argument_group(
        "settings", "from flags or the environment; KAFKA_… and SCHEMA_REGISTRY_… also pass client properties on"
    )
    for name, hint, default in settings_table():
        if not is_secret(name):
            flag = f"--{name.replace('_', '-')}"
            group.add_argument(flag, metavar="…", help=f"{hint} ({name.upper()}, default {default})")


def settings_table() -> list[tuple[str, str, str]]:
    """List every setting: its name, what it is, and its default."""
    hints = get_type_hints(Settings, include_extras=True)
    defaults = dict(zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True))
    shown = {name: "none" if value is None else str(value) for name, value in defaults.items()}
    shown["schemas_dir"] = "the project's own"
    return [(name, _description(hints[name]), shown[name]) for name in defaults if name in _OWN]


def _description(hint: Any) -> str:
    found = next(part for part in (*get_args(hint), *get_args(get_args(hint)[0])) if isinstance(part, Meta))
    return found.description or ""


def is_secret(name: str) -> bool:
    """Tell whether a client property holds a secret, by its name."""
    return bool(_SECRET.search(name))


def _properties(
    environ: Mapping[str, str], prefix: str, is_known: Callable[[str], bool], similar: Collection[str]
) -> dict[str, str]:
    """Collect a client's properties; shells also hold `KAFKA_HOME` and the like, which are none and are left alone."""
    found: dict[str, str] = {}
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(prefix).lower().replace("_", ".")
        if not variable.startswith(prefix) or variable.lower() in _OWN or not value:
            continue
        content = value
        if name.endswith(".file") and not is_known(name):
            name = name.removesuffix(".file")
            content = _read_secret(variable, value) if is_known(name) else ""
        if is_known(name):
            found[name] = content
        elif close := difflib.get_close_matches(name, similar, n=1, cutoff=0.8):
            meant = prefix + close[0].replace(".", "_").upper()
            log.warning("%s is no property of this client and is ignored; did you mean %s?", variable, meant)
    return found


def _is_known(name: str) -> bool:
    """Ask librdkafka itself, in a way that never makes a client: the property behind it is always refused."""
    if name == "logger":  # confluent-kafka's own, and no text
        return False
    try:
        Producer({name: "", "not.a.property": ""})
    except KafkaException as error:
        reason: KafkaError = error.args[0]
        return not reason.str().startswith(f'No such configuration property: "{name}"')
    except (TypeError, ValueError, AttributeError):  # confluent-kafka's own, such as a callback, which no text can be
        return False
    raise AssertionError(name)


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingError(f"{variable} names {path}, which cannot be read: {reason}") from None


if __name__ == "__main__":  # the table of docs/operations.md
    print("| variable | what it is | default |\n|---|---|---|")
    for setting, meaning, otherwise in settings_table():
        print(f"| `{setting.upper()}` | {meaning} | {otherwise} |")
