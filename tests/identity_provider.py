"""A real identity provider, Keycloak, with a client for each principal: what hands out tokens by OIDC."""

from __future__ import annotations

import json
import secrets
import textwrap
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stack.local import HOME, Server, fetch, find_java

REALM = "restaurant"
AUDIENCE = "kitchen"


class IdentityProvider(Server):
    """Keycloak in memory, over plain HTTP on loopback; its process is Java's, found by its pid file's name."""

    name = "keycloak"
    pom = Path(__file__).parent / "keycloak" / "pom.xml"

    def __init__(self, directory: Path, port: int = 0) -> None:
        super().__init__(directory, port, HOME)
        self.url = f"http://localhost:{self.port}"
        self.issuer = f"{self.url}/realms/{REALM}"
        self.token_endpoint = f"{self.issuer}/protocol/openid-connect/token"
        self.keys = f"{self.issuer}/protocol/openid-connect/certs"
        self.secrets: Mapping[str, str] = {}
        self._password = secrets.token_urlsafe(24)

    def make_realm(self, clients: Sequence[str], others: Sequence[str], seconds: int) -> None:
        """Make the realm: clients that get tokens, which last for so many seconds, by a secret of their own.

        The tokens of the others are not for AUDIENCE.
        """
        self.secrets = {name: secrets.token_urlsafe(24) for name in (*clients, *others)}
        realm = {
            "realm": REALM,
            "enabled": True,
            "sslRequired": "none",
            "accessTokenLifespan": seconds,
            "clients": [_client(name, secret, meant=name in clients) for name, secret in self.secrets.items()],
        }
        known = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": self._password}
        admin = self._post(f"{self.url}/realms/master/protocol/openid-connect/token", urllib.parse.urlencode(known))
        self._post(f"{self.url}/admin/realms", json.dumps(realm), admin["access_token"])

    def token(self, client: str) -> str:
        """Give a token that says who a client is."""
        known = {"grant_type": "client_credentials", "client_id": client, "client_secret": self.secrets[client]}
        return str(self._post(self.token_endpoint, urllib.parse.urlencode(known))["access_token"])

    def public_key(self) -> str:
        """Give the key, as PEM, by which its tokens are known."""
        with urllib.request.urlopen(self.issuer, timeout=10) as answer:  # noqa: S310 - our own
            key = "\n".join(textwrap.wrap(json.load(answer)["public_key"], 64))
        return f"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n"

    def _command(self) -> list[str]:
        (program,) = fetch(HOME, self.pom).glob("keycloak-*/bin/kc.sh")
        environment = {
            "JAVA": find_java(),
            "JAVA_OPTS_APPEND": self._mark,
            "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx384m",
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": self._password,
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        start = ["start-dev", "--db=dev-mem", "--http-host=127.0.0.1", f"--http-port={self.port}"]
        return ["/usr/bin/env", *settings, str(program), *start]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/realms/master", timeout=2):  # noqa: S310 - our own
                return True
        except OSError:
            return False

    def _post(self, url: str, body: str, token: str = "") -> dict[str, Any]:
        kind = "application/json" if token else "application/x-www-form-urlencoded"
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(url, body.encode(), headers)  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            text = answer.read()
        found: dict[str, Any] = json.loads(text) if text else {}
        return found


def _client(name: str, secret: str, *, meant: bool) -> dict[str, Any]:
    audience = {
        "name": "audience",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.custom.audience": AUDIENCE, "access.token.claim": "true"},
    }
    return {
        "clientId": name,
        "secret": secret,
        "serviceAccountsEnabled": True,
        "standardFlowEnabled": False,
        "publicClient": False,
        "protocolMappers": [audience] if meant else [],
    }
