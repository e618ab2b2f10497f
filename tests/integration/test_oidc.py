"""Everybody known by tokens of an identity provider, Keycloak: OAUTHBEARER (OIDC) at the broker, JWT at the proxy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stack.secure import SecureStack
from tests.identity_provider import AUDIENCE, IdentityProvider
from tests.locked import Locked
from tests.servers import running

pytestmark = [pytest.mark.integration, pytest.mark.secure, pytest.mark.timeout(300)]

LIFE = 8
"""Seconds that a token lasts, so that clients fetch another during a test."""
PRINCIPALS = ["waiter", "cook", "manager", "release", "stranger"]


@dataclass
class KnownByTokens(Locked):
    """The locked restaurant where nobody but the admin has a password or a certificate."""

    provider: IdentityProvider = field(kw_only=True)

    def settings(self, name: str) -> dict[str, str]:
        """Give what makes a command known as a client of the identity provider."""
        if name == "admin":
            return super().settings(name)
        secret = self.directory / f"{name}.secret"
        secret.write_text(self.provider.secrets[name])
        known = {"CLIENT_ID": name, "CLIENT_SECRET_FILE": str(secret)}
        at_broker = known | {"METHOD": "oidc", "TOKEN_ENDPOINT_URL": self.provider.token_endpoint}
        at_registry = known | {
            "CREDENTIALS_SOURCE": "OAUTHBEARER",
            "ISSUER_ENDPOINT_URL": self.provider.token_endpoint,
            "SCOPE": "profile",
            "LOGICAL_CLUSTER": "-",
            "IDENTITY_POOL_ID": "-",
        }
        trusted = str(self.stack.secrets / "ca.pem")
        return {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CA_LOCATION": trusted,
            "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
            **{f"KAFKA_SASL_OAUTHBEARER_{word}": value for word, value in at_broker.items()},
            "SCHEMA_REGISTRY_SSL_CA_LOCATION": trusted,
            **{f"SCHEMA_REGISTRY_BEARER_AUTH_{word}": value for word, value in at_registry.items()},
            "STARTUP_TIMEOUT": "20",
        }


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnownByTokens]:
    """An identity provider, a locked stack that trusts it, and the contract registered."""
    directory = tmp_path_factory.mktemp("oidc")
    provider = IdentityProvider(directory / "keycloak")
    oauth = "org.apache.kafka.common.security.oauthbearer.OAuthBearer"
    properties = {
        "listener.name.clients.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.clients.oauthbearer.sasl.jaas.config": f"{oauth}LoginModule required;",
        "listener.name.clients.oauthbearer.sasl.server.callback.handler.class": f"{oauth}ValidatorCallbackHandler",
        "listener.name.clients.oauthbearer.connections.max.reauth.ms": str(LIFE * 1000),
        "sasl.oauthbearer.jwks.endpoint.url": provider.keys,
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "sasl.oauthbearer.expected.issuer": provider.issuer,
        "sasl.oauthbearer.sub.claim.name": "azp",
    }
    stack = SecureStack(directory / "stack", properties=properties)
    key = directory / "provider.pem"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PROXY_TOKEN_KEY", str(key))
        environment.setenv("PROXY_TOKEN_ISSUER", provider.issuer)
        environment.setenv("PROXY_TOKEN_AUDIENCE", AUDIENCE)
        environment.setenv("PROXY_TOKEN_WRITER", "release")
        # Kafka asks no address that it is not told to be safe.
        environment.setenv("JAVA_TOOL_OPTIONS", f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={provider.keys}")
        with running(provider):
            provider.make_realm(PRINCIPALS, ["visitor"], LIFE)
            key.write_text(provider.public_key())
            with running(stack):
                places = directory, stack.bootstrap_servers, stack.registry_url
                restaurant = KnownByTokens(*places, stack=stack, provider=provider)
                for script in ("register_schema", "make_topics"):
                    done = restaurant.run_as("release", f"scripts/{script}.py")
                    assert done.returncode == 0, done.stderr
                yield restaurant
                restaurant.close()


def test_the_whole_restaurant_works_longer_than_a_token_lasts(known: KnownByTokens) -> None:
    """Order, cook and ledger; the broker wants another token while cook and manager run, and gets it."""
    cook, manager = known.start_as("cook"), known.start_as("manager")
    for number in (1, 2):
        ordered = known.run_as("waiter", "-m", "producer.waiter", "margherita", "17")
        assert ordered.stdout == f"message published on partition 0 with offset {number - 1}\n", ordered.stderr
        assert cook.wait_for_lines(number) == ["Received an order for a pizza margherita at table 17 !"] * number
        known.wait_for_rows(number)
        time.sleep(LIFE + 2 if number == 1 else 0)  # nothing tells when a token has expired
    assert [cook.stop(), manager.stop()] == [0, 0]


def test_a_token_gives_no_more_permissions_than_a_password(known: KnownByTokens) -> None:
    """The principal is the client's name, and access.yaml says what it may do."""
    refused = known.run_as("waiter", "-m", "consumers.cook")
    assert refused.returncode == 2
    assert "User:waiter lacks " in refused.stderr
    refused = known.run_as("waiter", "scripts/register_schema.py", SCHEMAS_DIR=str(_with_another_level(known)))
    assert refused.returncode == 2
    assert "the schema registry refused our credentials (403)" in refused.stderr
    refused = known.run_as("stranger", "-m", "producer.waiter")
    assert refused.returncode == 2
    assert "User:stranger lacks WRITE on the topic pizza-order" in refused.stderr


def _with_another_level(known: KnownByTokens) -> Path:
    """Give a contract that asks for a change of the registry."""
    (known.directory / "other").mkdir()
    places = known.directory / "other", known.bootstrap_servers, known.registry_url
    other = KnownByTokens(*places, stack=known.stack, provider=known.provider)
    other.edit_subjects("FULL_TRANSITIVE", "FULL")
    return other.schemas


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE", "{wrong}"),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "http://localhost:1/"),
        ("SCHEMA_REGISTRY_BEARER_AUTH_CLIENT_SECRET_FILE", "{wrong}"),
        ("SCHEMA_REGISTRY_BEARER_AUTH_ISSUER_ENDPOINT_URL", "http://localhost:1/"),
    ],
)
def test_what_brings_no_token_is_named(known: KnownByTokens, tmp_path: Path, name: str, value: str) -> None:
    """A wrong secret and an identity provider that is not there: a sentence, exit 2, soon, and no secret in it."""
    (tmp_path / "wrong").write_text("tiramisu")
    began = time.monotonic()
    limits = {"REQUEST_TIMEOUT": "3", "STARTUP_TIMEOUT": "5"}
    done = known.run_as("waiter", "-m", "producer.waiter", **limits, **{name: value.format(wrong=tmp_path / "wrong")})
    assert (done.returncode, done.stdout) == (2, "")
    assert name.removesuffix("_FILE") in done.stderr.splitlines()[-1]
    assert time.monotonic() - began < 20
    assert "Traceback" not in done.stderr
    assert "tiramisu" not in done.stderr


def test_a_token_for_others_is_refused(known: KnownByTokens, tmp_path: Path) -> None:
    """One of the same identity provider that was made for another audience opens neither door."""
    (tmp_path / "secret").write_text(known.provider.secrets["visitor"])
    visitor = {"CLIENT_ID": "visitor", "CLIENT_SECRET_FILE": str(tmp_path / "secret")}
    for prefix, whose in (
        ("KAFKA_SASL_OAUTHBEARER_", "the broker"),
        ("SCHEMA_REGISTRY_BEARER_AUTH_", "the schema regis"),
    ):
        settings = {f"{prefix}{name}": value for name, value in visitor.items()}
        refused = known.run_as("waiter", "-m", "producer.waiter", **settings, REQUEST_TIMEOUT="3", STARTUP_TIMEOUT="5")
        assert refused.returncode == 2
        assert f"waiter: {whose}" in refused.stderr.splitlines()[-1]


def test_an_expired_token_is_refused_with_its_setting(known: KnownByTokens, tmp_path: Path) -> None:
    """Kept in a file, as a static token is, it works while it lasts, and no longer."""
    path = tmp_path / "token"
    path.write_text(known.provider.token("release"))
    names = [name for name in known.settings("release") if name.startswith("SCHEMA_REGISTRY_BEARER_AUTH_C")]
    names += [f"SCHEMA_REGISTRY_BEARER_AUTH_{name}" for name in ("ISSUER_ENDPOINT_URL", "SCOPE")]
    settings = dict.fromkeys(names, "") | {
        "SCHEMA_REGISTRY_BEARER_AUTH_CREDENTIALS_SOURCE": "STATIC_TOKEN",
        "SCHEMA_REGISTRY_BEARER_AUTH_TOKEN_FILE": str(path),
    }
    plan = "scripts/register_schema.py", "--plan"
    assert known.run_as("release", *plan, **settings).returncode == 0
    time.sleep(LIFE + 1)
    refused = known.run_as("release", *plan, **settings)
    assert refused.returncode == 2
    assert "the token of SCHEMA_REGISTRY_BEARER_AUTH_…, which may have expired" in refused.stderr
    assert path.read_text() not in refused.stderr
