"""The same servers, locked: TLS, a password for each principal, and nobody may do more than `access.yaml` says.

    python -m stack.secure up|down

Kafka's clients come with SASL_SSL and SCRAM-SHA-512; the node's own parts and the admin come with certificates, by
which alone users and permissions are made. The registry is behind a TLS proxy that lets only the release write.
"""

import http.client
import os
import shutil
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stack.local import HOME, Kafka, LocalStack, NotInstalledError, Registry, Server, StackError, main, run_quietly

ROOT = Path(__file__).resolve().parent.parent
INSTALL = "apt-get install haproxy"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class SecureStack(LocalStack):
    """A LocalStack whose servers know everybody by name; its secrets are in `directory`/secrets."""

    module = "stack.secure"
    home = HOME / "secure"
    ports = (9094, 8443)
    kafka: "SecureKafka"

    def __init__(self, directory: Path, *, registry_port: int = 0, **options: Any) -> None:
        behind = registry_port and registry_port + 1  # the proxy has the port that the registry is known by
        super().__init__(directory, registry_port=behind, kafka_kind=SecureKafka, **options)
        self.secrets = self.directory / "secrets"
        self.proxy = Proxy(self.directory, registry_port, self.registry.port)
        self.servers += (self.proxy,)
        self.registry_url = f"https://localhost:{self.proxy.port}{Registry.PATH}"

    def start(self) -> None:
        """Start the servers, and make their secrets, users and permissions where there are none."""
        if not self.secrets.exists():
            _script("dev_certificates.py", "--directory", str(self.secrets))
        super().start()
        _script("apply_acls.py", "--passwords", str(self.secrets), env=os.environ | self._admin())

    def settings(self) -> Mapping[str, Mapping[str, str]]:
        """Give a file for each principal, and one for the admin, who has no say in the registry."""
        principals = sorted(path.stem for path in self.secrets.glob("*.password"))
        return {f"{name}.env": self.principal(name) for name in principals} | {"admin.env": self._admin()}

    def principal(self, name: str) -> dict[str, str]:
        """Give what somebody needs to be known on both servers."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CA_LOCATION": str(self.secrets / "ca.pem"),
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": name,
            "KAFKA_SASL_PASSWORD_FILE": str(self.secrets / f"{name}.password"),
            "SCHEMA_REGISTRY_URL": self.registry_url,
            "SCHEMA_REGISTRY_SSL_CA_LOCATION": str(self.secrets / "ca.pem"),
            "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO_FILE": str(self.secrets / f"{name}.registry"),
        }

    def _admin(self) -> dict[str, str]:
        properties = self.kafka.admin()
        return {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in properties.items()}


class SecureKafka(Kafka):
    """A node with two doors: passwords for the services on `port`, certificates for itself and the admin behind it."""

    def __init__(self, directory: Path, port: int, programs: Path, properties: Mapping[str, str]) -> None:
        super().__init__(directory, port, programs, properties)
        self.admin_port = self.port + 1

    def _defaults(self, controller: str) -> dict[str, str]:
        own = f"CLIENTS://127.0.0.1:{self.port},BROKERS://127.0.0.1:{self.admin_port}"
        return super()._defaults(controller) | {
            "listeners": f"{own},CONTROLLER://{controller}",
            "advertised.listeners": own.replace("127.0.0.1", "localhost"),
            "listener.security.protocol.map": "CLIENTS:SASL_SSL,BROKERS:SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "BROKERS",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": "secrets/kafka.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "secrets/ca.pem",
            "listener.name.brokers.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/",
            "listener.name.clients.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": SCRAM,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:kafka;User:admin",
        }

    def _client(self) -> dict[str, str]:
        return self.admin()

    def admin(self) -> dict[str, str]:
        """Give the properties of the admin, who is known by a certificate."""
        secrets = self.directory / "secrets"
        return {
            "bootstrap.servers": f"localhost:{self.admin_port}",
            "security.protocol": "SSL",
            "ssl.ca.location": str(secrets / "ca.pem"),
            "ssl.certificate.location": str(secrets / "admin.crt"),
            "ssl.key.location": str(secrets / "admin.key"),
        }


class Proxy(Server):
    """HAProxy before the registry."""

    name = "proxy"

    def __init__(self, directory: Path, port: int, registry_port: int) -> None:
        super().__init__(directory, port, HOME)
        self._registry_port = registry_port
        self._secrets = directory / "secrets"
        self._mark = f"-f {self._secrets / 'users.cfg'} "

    def check(self) -> None:
        """Raise NotInstalledError without HAProxy, StackError when the port is in use."""
        if not shutil.which("haproxy", path=_PATH):
            raise NotInstalledError(f"HAProxy is needed, and there is none: {INSTALL}")
        self.check_port()

    def _command(self) -> list[str]:
        config = Path(__file__).with_name("haproxy.cfg")
        variables = {
            "PROXY_BIND": f"127.0.0.1:{self.port}",
            "PROXY_REGISTRY": f"127.0.0.1:{self._registry_port}",
            "PROXY_PATH": Registry.PATH,
            "PROXY_CERTIFICATE": str(self._secrets / "proxy.pem"),
        }
        settings = [f"{name}={value}" for name, value in variables.items()]
        haproxy = shutil.which("haproxy", path=_PATH) or "haproxy"
        return ["/usr/bin/env", *settings, haproxy, "-db", "-f", str(self._secrets / "users.cfg"), "-f", str(config)]

    def _answers(self) -> bool:
        trusted = ssl.create_default_context(cafile=str(self._secrets / "ca.pem"))
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=2, context=trusted)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.HTTPStatus.UNAUTHORIZED
        except ssl.SSLCertVerificationError as error:
            again = f"stop it and delete {self._secrets}, then start it again"
            raise StackError(f"the certificates do not hold any more ({error.verify_message}): {again}") from None
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def _script(name: str, *arguments: str, env: Mapping[str, str] | None = None) -> None:
    run_quietly([sys.executable, str(ROOT / "scripts" / name), *arguments], ROOT, f"scripts/{name} failed", env)


if __name__ == "__main__":
    sys.exit(main(kind=SecureStack))
