"""Brings the broker's permissions to what schemas/access.yaml says; run by whoever may change them, the admin.

With `--passwords` each principal gets its password first, from `<directory>/<principal>.password`.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from contract.access import load_access
from contract.errors import SettingError
from contract.subjects import load_contract
from runtime.acls import apply, describe, plan, set_passwords
from runtime.clients import admin_client, cluster_metadata, wait_until_available
from runtime.command import FAILED, OK, create_parser, run_command
from runtime.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit 1 while somebody may do more than the file says, and that is not to be taken away."""
    parser = create_parser("apply_acls", __doc__ or "", "python scripts/apply_acls.py --plan")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--plan", action="store_true", help="show what would be done, and change nothing")
    either.add_argument("--passwords", type=Path, metavar="DIRECTORY", help="set passwords first, from its files")
    parser.add_argument("--prune", action="store_true", help="take away what the file does not say")
    return run_command(parser, run, arguments)


def run(flags: Namespace, settings: Settings) -> int:
    """Plan or apply on the broker that the settings name."""
    access = load_access(load_contract(settings.schemas_dir))
    known = access.roles if flags.passwords else ()  # all of them: nobody is left out
    passwords = {name: _read(flags.passwords / f"{name}.password") for name in known}
    admin = admin_client(settings)
    wait_until_available(lambda: cluster_metadata(admin, settings), settings)
    if passwords:
        set_passwords(passwords, admin, settings)
        print(f"set the passwords of {', '.join(passwords)}")
    planned = wait_until_available(lambda: plan(access, admin, settings), settings)
    if not flags.plan:
        apply(planned, admin, settings, prune=flags.prune)
    would = "to be " if flags.plan else ""
    for binding in planned.present:
        print(f"{describe(binding)} was there already")
    for binding in planned.missing:
        print(f"{describe(binding)} {would}granted")
    for binding in planned.surplus:
        said = f"{would}taken away" if flags.prune else f"is more than {access.path} says; --prune takes it away"
        print(f"{describe(binding)} {said}", file=sys.stdout if flags.prune else sys.stderr)
    return FAILED if planned.surplus and not flags.prune else OK


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}; --passwords needs one a principal") from None


if __name__ == "__main__":
    sys.exit(main())
