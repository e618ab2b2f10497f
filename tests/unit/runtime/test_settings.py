"""Where settings come from, which are refused, and that no secret is ever shown."""

import logging
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from contract.errors import SettingError
from contract.subjects import SCHEMAS
from runtime import settings as module
from runtime.clients import consumer_properties, producer_properties, registry_client
from runtime.settings import COMMON, PROTECTED, REGISTRY, Settings, is_secret, load_settings, settings_table
from runtime.telemetry import configure_logging

SECRET = "hunter2-öäü"  # noqa: S105 - looked for in all output
PROJECT = Path(__file__).parents[3]


class TestSources:
    """Environment, flags, defaults."""

    def test_the_defaults(self) -> None:
        settings = load_settings({})
        assert settings == Settings()
        assert settings.kafka_bootstrap_servers == "localhost:9092"
        assert settings.schema_registry_url == "http://localhost:8081"
        assert settings.data_dir == Path("data")
        assert settings.schemas_dir == SCHEMAS

    def test_the_environment(self) -> None:
        settings = load_settings(
            {
                "KAFKA_BOOTSTRAP_SERVERS": "broker:9093",
                "SCHEMA_REGISTRY_URL": "https://registry/path",
                "DATA_DIR": "/var/lib/ledger",
                "TOPIC_PARTITIONS": "3",
                "STARTUP_TIMEOUT": "1.5",
            }
        )
        assert (settings.kafka_bootstrap_servers, settings.schema_registry_url) == (
            "broker:9093",
            "https://registry/path",
        )
        assert (settings.data_dir, settings.topic_partitions, settings.startup_timeout) == (
            Path("/var/lib/ledger"),
            3,
            1.5,
        )

    def test_flags_win_over_the_environment(self) -> None:
        flags = Namespace(kafka_bootstrap_servers="flag:1", data_dir=None, orders="not a setting")
        settings = load_settings({"KAFKA_BOOTSTRAP_SERVERS": "environment:1", "DATA_DIR": "kept"}, flags)
        assert (settings.kafka_bootstrap_servers, settings.data_dir) == ("flag:1", Path("kept"))

    def test_an_empty_variable_is_an_absent_one(self) -> None:
        """As compose files and CI systems leave them."""
        assert (
            load_settings({"KAFKA_BOOTSTRAP_SERVERS": "", "TOPIC_PARTITIONS": "", "KAFKA_CLIENT_ID": ""}) == Settings()
        )

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("TOPIC_PARTITIONS", "0"),
            ("TOPIC_PARTITIONS", "three"),
            ("TOPIC_PARTITIONS", "1000000000000"),
            ("TOPIC_REPLICATION", "9" * 30),
            ("REQUEST_TIMEOUT", "nan"),
            ("STARTUP_TIMEOUT", "inf"),
            ("METRICS_PORT", "65536"),
            ("TOPIC_REPLICATION", "-1"),
            ("STARTUP_TIMEOUT", "0"),
            ("STARTUP_TIMEOUT", "nan"),
            ("REQUEST_TIMEOUT", "soon"),
            ("DELIVERY_TIMEOUT", "-1"),
            ("LOG_LEVEL", "loud"),
        ],
    )
    def test_a_bad_value_is_named_with_its_variable(self, variable: str, value: str) -> None:
        with pytest.raises(SettingError, match=rf"^{variable} is '{value}': expected "):
            load_settings({variable: value})

    @pytest.mark.parametrize("level", ["DEBUG", "info", "Warning"])
    def test_log_levels_in_any_case(self, level: str) -> None:
        assert load_settings({"LOG_LEVEL": level}).log_level == level

    def test_every_setting_is_described(self) -> None:
        table = {name: (hint, default) for name, hint, default in settings_table()}
        assert set(table) == set(Settings.__struct_fields__) - {"kafka", "registry"}
        assert table["kafka_bootstrap_servers"] == (
            "brokers to ask first, host:port, comma-separated",
            "localhost:9092",
        )
        assert all(hint for hint, _ in table.values())

    def test_the_document_has_this_table(self) -> None:
        """docs/operations.md, between its marks; `python -m runtime.settings` prints what it must be."""
        shown = (PROJECT / "docs" / "operations.md").read_text("utf-8").split("settings -->\n")[1].partition("<!--")[0]
        printed = subprocess.run(
            [sys.executable, "-m", "runtime.settings"], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        assert shown == printed.stdout


class TestProperties:
    """`KAFKA_…` and `SCHEMA_REGISTRY_…` name a client's properties."""

    def test_a_librdkafka_property(self) -> None:
        environ = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SSL_CA_LOCATION": "/ca.pem", "KAFKA_CLIENT_ID": "Me"}
        assert load_settings(environ).kafka == {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": "/ca.pem",
            "client.id": "Me",
        }

    def test_it_reaches_producer_and_consumer(self) -> None:
        settings = load_settings({"KAFKA_CLIENT_ID": "me", "KAFKA_LINGER_MS": "7"})
        assert producer_properties(settings)["linger.ms"] == "7"
        assert consumer_properties(settings, "cook")["client.id"] == "me"

    def test_a_registry_property(self) -> None:
        settings = load_settings({"SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": "me:" + SECRET})
        assert settings.registry == {"basic.auth.user.info": "me:" + SECRET}
        assert settings.kafka == {}

    @pytest.mark.parametrize(
        "variable",
        [
            *("KAFKA_HOME", "KAFKA_OPTS", "KAFKA_PORT", "KAFKA_IMAGE", "KAFKA_HEAP_OPTS", "KAFKA_SERVICE_HOST"),
            *("KAFKA_VERSION", "KAFKA_", "SCHEMA_REGISTRY_HOST_NAME"),
            *("KAFKA_LOGGER", "KAFKA_ERROR_CB", "KAFKA_DEFAULT_TOPIC_CONFIG"),  # the client's own, and no text
        ],
    )
    def test_what_shells_hold_is_left_alone(self, variable: str, caplog: pytest.LogCaptureFixture) -> None:
        assert load_settings({variable: "tcp://10.0.0.1:9092"}) == Settings()
        assert caplog.text == ""

    @pytest.mark.parametrize(
        ("variable", "meant"),
        [
            ("KAFKA_SASL_PASWORD", "KAFKA_SASL_PASSWORD"),
            ("KAFKA_SECURITY_PROTOCOLL", "KAFKA_SECURITY_PROTOCOL"),
            ("KAFKA_SASL_PASWORD_FILE", "KAFKA_SASL_PASSWORD"),
            ("SCHEMA_REGISTRY_BASIC_AUTH_USERINFO", "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO"),
        ],
    )
    def test_what_resembles_a_property_is_warned_about(
        self, variable: str, meant: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without its value, which is likely to be the secret."""
        assert load_settings({variable: SECRET}) == Settings()
        assert caplog.messages == [f"{variable} is no property of this client and is ignored; did you mean {meant}?"]

    @pytest.mark.parametrize("name", sorted(PROTECTED))
    def test_what_would_break_a_promise_is_refused(self, name: str) -> None:
        variable = f"KAFKA_{name.replace('.', '_').upper()}"
        with pytest.raises(SettingError, match=rf"^{variable} cannot be set: .+; unset it$"):
            load_settings({variable: "1"})

    @pytest.mark.parametrize("name", sorted({*COMMON, *PROTECTED}))
    def test_every_name_in_the_code_is_known_to_librdkafka(self, name: str) -> None:
        """A misspelt name would refuse or suggest what does not exist."""
        assert module._is_known(name)  # noqa: SLF001 - what is tested

    def test_what_is_promised_to_be_refused(self) -> None:
        """DESIGN.md names these."""
        assert {"acks", "enable.idempotence", "enable.auto.commit", "group.id", "partitioner"} <= PROTECTED.keys()

    def test_what_a_transaction_has_aborted_is_not_to_be_read(self) -> None:
        with pytest.raises(SettingError, match=r"^KAFKA_ISOLATION_LEVEL cannot be set: .* aborted .*; unset it$"):
            load_settings({"KAFKA_ISOLATION_LEVEL": "read_uncommitted"})

    def test_the_registrys_client_knows_every_property(self) -> None:
        """Together, these are all that the code names; without files, those of TLS are known by their error."""
        bearer = {"bearer.auth.logical.cluster": "lsrc-1", "bearer.auth.identity.pool.id": "pool-1"}
        token = {"bearer.auth.credentials.source": "STATIC_TOKEN", "bearer.auth.token": "x"}
        oauth = {
            "bearer.auth.credentials.source": "OAUTHBEARER",
            "bearer.auth.client.id": "me",
            "bearer.auth.scope": "s",
        }
        oauth |= {"bearer.auth.client.secret": "x", "bearer.auth.issuer.endpoint.url": "http://issuer"}
        tls = {f"ssl.{name}": "/nonexistent" for name in ("key.location", "key.password", "certificate.location")}
        used = [{"basic.auth.user.info": "me:too", "proxy": "http://proxy:1"}, {**bearer, **token}, {**bearer, **oauth}]
        for properties in used:
            registry_client(Settings(registry=properties))
        for properties in (tls, {"ssl.ca.location": "/nonexistent"}):
            with pytest.raises(SettingError, match="No such file"):
                registry_client(Settings(registry=properties))
            used.append(properties)
        assert set().union(*used) == REGISTRY


class TestSecrets:
    """From files, and never shown."""

    def test_a_secret_from_a_file(self, tmp_path: Path) -> None:
        """A line end behind it, as editors leave one, is no part of it; other spaces may be."""
        (tmp_path / "password").write_text(f" {SECRET} \r\n", "utf-8")
        settings = load_settings(
            {
                "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password"),
                "SCHEMA_REGISTRY_BEARER_AUTH_TOKEN_FILE": str(tmp_path / "password"),
            }
        )
        assert settings.kafka == {"sasl.password": f" {SECRET} "}
        assert settings.registry == {"bearer.auth.token": f" {SECRET} "}

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "latin").write_bytes(b"\xff")
        for file, reason in (("missing", "No such file"), (".", "Is a directory"), ("latin", "not UTF-8")):
            with pytest.raises(SettingError, match=rf"^KAFKA_SASL_PASSWORD_FILE names .*{file}, which .*: {reason}"):
                load_settings({"KAFKA_SASL_PASSWORD_FILE": str(tmp_path / file)})

    @pytest.mark.parametrize(
        "environ",
        [
            {"KAFKA_SASL_PASSWORD": SECRET},
            {"KAFKA_SASL_JAAS_CONFIG": f"required password={SECRET};"},  # Java's, which librdkafka knows to refuse it
            {"KAFKA_SSL_KEY_PASSWORD": SECRET},
            {"KAFKA_SSL_KEY_PEM": SECRET},
            {"KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": SECRET},
            {"SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": f"me:{SECRET}"},
            {"SCHEMA_REGISTRY_BEARER_AUTH_TOKEN": SECRET},
            {"SCHEMA_REGISTRY_BEARER_AUTH_CLIENT_SECRET": SECRET},
            {"SCHEMA_REGISTRY_PROXY": f"http://me:{SECRET}@proxy:1"},
            {"SCHEMA_REGISTRY_URL": f"https://me:{SECRET}@registry"},
            {"SCHEMA_REGISTRY_URL": f"https://first, https://me:other@second,https://me:{SECRET}@third/path"},
            {"SCHEMA_REGISTRY_URL": f"https://me:{SECRET}@["},
            {"SCHEMA_REGISTRY_URL": f"https://me:{SECRET}@x/a/p@th"},
        ],
    )
    def test_a_secret_is_in_nothing_that_is_shown(
        self, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """All output is searched: repr, text, log lines and their tracebacks, errors."""
        settings = load_settings(environ)
        try:
            configure_logging(settings)
            log = logging.getLogger("test")
            log.warning("connecting with %s", environ)
            try:
                raise RuntimeError(str(environ))  # noqa: TRY301 - its traceback is what is looked at
            except RuntimeError:
                log.exception("failed with %r", settings)
        finally:
            logging.getLogger().handlers.clear()
        print(repr(settings), str(settings), settings.redact(str(environ)))
        output = capsys.readouterr()
        assert "connecting with" in output.err
        assert "RuntimeError" in output.err
        assert SECRET not in output.out + output.err

    def test_the_registrys_address_is_still_readable(self) -> None:
        settings = load_settings({"SCHEMA_REGISTRY_URL": f"https://me:{SECRET}@registry:8081/path"})
        assert settings.redact(settings.schema_registry_url) == "https://me:***@registry:8081/path"

    def test_an_address_without_a_secret_is_shown_as_it_is(self) -> None:
        for url in ("http://localhost:8081", "http://a:1/x,http://b:2", "http://user@host", "http://["):
            assert Settings(schema_registry_url=url).secrets == frozenset()

    @pytest.mark.parametrize("name", sorted({*COMMON, *REGISTRY}))
    def test_which_properties_are_secret(self, name: str) -> None:
        public = ("ssl.ca.location", "ssl.key.location", "sasl.oauthbearer.token.endpoint.url", "sasl.username")
        assert not (is_secret(name) and name in public)
        assert is_secret(name) or not any(word in name for word in ("password", "secret", "user.info", "key.pem"))

    @pytest.mark.parametrize(
        "environ",
        [
            {"SCHEMA_REGISTRY_URL": f"ftp://me:{SECRET}@registry"},
            {"SCHEMA_REGISTRY_URL": f"http://me:{SECRET}@["},
            {"SCHEMA_REGISTRY_URL": f"http://me:{SECRET}@r", "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": "you:me"},
            {"SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": SECRET},
            {"SCHEMA_REGISTRY_SSL_KEY_PASSWORD": SECRET},
            {"SCHEMA_REGISTRY_URL": "mock://x", "KAFKA_SECURITY_PROTOCOL": "no", "KAFKA_SASL_PASSWORD": SECRET},
            {"SCHEMA_REGISTRY_URL": "mock://x", "KAFKA_SSL_KEY_PEM": SECRET, "KAFKA_SECURITY_PROTOCOL": "SSL"},
            {"SCHEMA_REGISTRY_URL": f"http://me:{SECRET}@r", "TOPIC_PARTITIONS": "0"},
            {"KAFKA_ACKS": SECRET},
        ],
    )
    def test_a_command_that_cannot_start_says_why_without_its_secrets(self, environ: dict[str, str]) -> None:
        """As a process, so that all it prints is seen; each fails before it would connect to anything."""
        run = subprocess.run(
            [sys.executable, "-m", "producer.waiter"],
            env={**os.environ, **environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert SECRET not in run.stdout + run.stderr
        assert "Traceback" not in run.stderr
        assert run.stderr.splitlines()[-1].startswith("waiter: ")
        assert run.returncode == 2
