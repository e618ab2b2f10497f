"""Makes the topics that the contract names, so that no service needs the permission to; run by the release."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from contract.subjects import load_contract
from runtime.command import OK, create_parser, run_command
from runtime.settings import Settings
from runtime.topics import connect


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; a topic that is there is left as it is."""
    return run_command(create_parser("make_topics", __doc__ or "", "python scripts/make_topics.py"), run, arguments)


def run(_flags: Namespace, settings: Settings) -> int:
    """Make sure of each subject's topic and of what its consumers keep beside it."""
    servers = connect(settings)
    for subject in load_contract(settings.schemas_dir).subjects.values():
        servers.ensure_topics(subject, *subject.topics_beside)
        print(f"{subject.topic} is there, and {len(subject.topics_beside)} topics beside it")
    return OK


if __name__ == "__main__":
    sys.exit(main())
