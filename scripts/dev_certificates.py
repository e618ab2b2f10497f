"""Makes the secrets of a locked stack for development: a CA, certificates, a password for each principal.

    <directory>/ca.pem                    the CA's certificate; its key is not kept, so that nothing more can be signed
    <directory>/{kafka,proxy}.pem         key and certificate of a server
    <directory>/admin.{crt,key}           who may do everything on the broker, known by this certificate
    <directory>/schema-registry.pem       the registry, as the broker knows it
    <directory>/<principal>.password      on the broker
    <directory>/<principal>.registry      name:password at the registry
    <directory>/<principal>.token         what a browser shows to who watches
    <directory>/users.cfg                 who those are, as the registry's proxy reads it

They hold for days and for local names alone. To rotate all of them, delete the directory and run it again.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import secrets
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contract.access import load_access
from contract.errors import SettingError
from contract.subjects import load_contract
from runtime.command import OK, create_parser, run_command
from runtime.settings import Settings

MARK = "for development only, do not trust"
LONGEST_DAYS = 30
# Names that no public server has: without a dot, of loopback, or below a domain that is reserved for such use.
_LOCAL = re.compile(r"[a-z0-9-]+|[a-z0-9.-]+\.(localhost|test|internal)")
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit 2 rather than overwrite, prolong, or make what could serve beyond development."""
    parser = create_parser("dev_certificates", __doc__ or "", "python scripts/dev_certificates.py --directory .secrets")
    parser.add_argument("--directory", type=Path, default=Path(".secrets"), help="(%(default)s)")
    parser.add_argument("--days", type=int, default=7, help="how long they hold, at most 30 (%(default)s)")
    parser.add_argument(
        "--host", action="append", default=[], help="one more local name of the servers; again for more"
    )
    return run_command(parser, run, arguments)


def run(flags: Namespace, settings: Settings) -> int:
    """Make all of them; what is wrong with the flags is said before anything is made."""
    directory: Path = flags.directory
    if not 1 <= flags.days <= LONGEST_DAYS:
        raise SettingError(f"--days {flags.days}: these are {MARK}, and hold for 1 to {LONGEST_DAYS} days")
    hosts = ["localhost", "127.0.0.1", "kafka", "proxy", *flags.host]
    for host in hosts:
        if not is_local(host):
            raise SettingError(f"--host {host} is no local name; servers that others reach get theirs from your CA")
    if directory.exists():
        raise SettingError(f"{directory} exists; to make all anew, stop what uses it and run: rm -r {directory}")
    access = load_access(load_contract(settings.schemas_dir))
    authority = Authority(datetime.timedelta(days=flags.days))
    directory.mkdir(parents=True, mode=0o700)  # others are kept out here: inside containers the files have readers
    _write(directory / "ca.pem", authority.pem)
    # The broker is a client too, of its controllers.
    _write(directory / "kafka.pem", b"".join(authority.issue("kafka", hosts, client=True)))
    _write(directory / "proxy.pem", b"".join(authority.issue("proxy", hosts)))
    for client in ("admin", *(access.permissions.keys() - access.roles.keys())):
        key, certificate = authority.issue(client, client=True)
        for name, content in {"key": key, "crt": certificate, "pem": key + certificate}.items():
            _write(directory / f"{client}.{name}", content)
    users = []
    for principal in access.roles:
        _write(directory / f"{principal}.password", secrets.token_urlsafe(24).encode())
        password = secrets.token_urlsafe(24)
        _write(directory / f"{principal}.registry", f"{principal}:{password}".encode())
        if "watches" in access.roles[principal]:
            _write(directory / f"{principal}.token", secrets.token_urlsafe(24).encode())
        groups = " groups writers" if "releases" in access.roles[principal] else ""
        users.append(f"  user {principal} insecure-password {password}{groups}\n")
    _write(directory / "users.cfg", f"userlist registry\n  group writers\n{''.join(users)}".encode())
    print(f"made {directory}, {MARK}, until {authority.until:%Y-%m-%d %H:%M} UTC")
    return OK


def is_local(host: str) -> bool:
    """Tell whether a host is one of this machine or of a network of containers."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return _LOCAL.fullmatch(host) is not None


class Authority:
    """A CA of its own, whose key lives as long as this object."""

    def __init__(self, valid: datetime.timedelta) -> None:
        self.since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)  # clocks differ
        self.until = datetime.datetime.now(datetime.UTC) + valid
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("CA")
        self._certificate = (
            self._begin(self._name, self._key.public_key(), self.until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, hosts: Sequence[str] = (), *, client: bool = False, until: datetime.datetime | None = None
    ) -> tuple[bytes, bytes]:
        """Give the PEM of a key (PKCS#8, as Java wants it) and of its certificate: a server's if it has host names."""
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [_SERVER] * bool(hosts) + [_CLIENT] * client
        request = (
            self._begin(_name(name), key.public_key(), until or self.until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        if hosts:
            request = request.add_extension(x509.SubjectAlternativeName([*map(_general_name, hosts)]), critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private, request.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _begin(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(self.since, until - datetime.timedelta(minutes=1)))
            .not_valid_after(until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _name(common: str) -> x509.Name:
    attributes = [(NameOID.COMMON_NAME, common), (NameOID.ORGANIZATION_NAME, MARK)]
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in reversed(attributes)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
    # Whatever the umask: containers read them as users of their own, and the directory keeps others out.
    path.chmod(0o644)


if __name__ == "__main__":
    sys.exit(main())
