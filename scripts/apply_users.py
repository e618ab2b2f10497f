"""Gives each principal of schemas/access.yaml its password on the broker, from `<directory>/<principal>.password`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka.admin import AdminClient

from contract.access import load_access
from contract.errors import SettingError
from contract.subjects import load_contract
from runtime.acls import set_passwords
from runtime.clients import cluster_metadata, common_properties, make_client, wait_until_available
from runtime.command import OK, create_parser, run_command
from runtime.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; run again after a password has changed."""
    parser = create_parser("apply_users", __doc__ or "", "python scripts/apply_users.py --directory .secrets")
    parser.add_argument("--directory", type=Path, required=True, help="with a file <principal>.password for each")
    return run_command(parser, run, arguments)


def run(flags: Namespace, settings: Settings) -> int:
    """Set every password; nobody is left out."""
    principals = load_access(load_contract(settings.schemas_dir)).roles
    passwords = {name: _read(flags.directory / f"{name}.password") for name in principals}
    admin = make_client(AdminClient, common_properties(settings))
    wait_until_available(lambda: cluster_metadata(admin, settings), settings)
    set_passwords(passwords, admin, settings)
    print(f"set the passwords of {', '.join(principals)}")
    return OK


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}; --directory needs one a principal") from None


if __name__ == "__main__":
    sys.exit(main())
