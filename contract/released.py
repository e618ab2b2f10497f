"""Keeps released files as they were: each has its fingerprint in `schemas/released.sha256`, as sha256sum writes it.

What a version says is in topics, registries and deployed code; a file that changes afterwards tells lies about them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from contract.errors import ContractError
from contract.subjects import Contract

FOLDER = "released"
FINGERPRINTS = "released.sha256"


def record_files(directory: Path, paths: Iterable[Path]) -> None:
    """Add the fingerprints of files that are being released."""
    known = _recorded(directory) | {path.name: _fingerprint(path.read_bytes()) for path in paths}
    lines = [f"{known[name]}  {FOLDER}/{name}\n" for name in sorted(known)]
    (directory / FINGERPRINTS).write_text("".join(lines), "utf-8")


def changed_files(contract: Contract, baseline: Mapping[str, bytes] | None) -> Iterator[tuple[Path, int, str, str]]:
    """Give each released file that is not as it was: its path, the first line that differs, what is wrong, what to do.

    `baseline` holds the files as they were, by name, beside what the fingerprints say. Raises ContractError when the
    fingerprints cannot be read.
    """
    folder, baseline = contract.directory / FOLDER, baseline or {}
    recorded = _recorded(contract.directory) | {name: _fingerprint(raw) for name, raw in baseline.items()}
    for name, fingerprint in sorted(recorded.items()):
        path = folder / name
        now = path.read_bytes() if path.is_file() else None
        if now is None:
            yield path, 1, "is gone", "restore it"
        elif _fingerprint(now) != fingerprint:
            yield path, _first_difference(now, baseline.get(name, now)), "is not what was released", "restore it"
    for subject in contract.subjects.values():
        for version in subject.released:
            if version.path.name not in recorded:
                fix = f"remove it, and run: python scripts/release_schema.py {subject.stem}"
                yield version.path, 1, f"is not in {FINGERPRINTS}, where each release is recorded", fix


def _recorded(directory: Path) -> dict[str, str]:
    path = directory / FINGERPRINTS
    try:
        lines = [line.split() for line in path.read_text("utf-8").splitlines()] if path.exists() else []
        return {name.removeprefix(f"{FOLDER}/"): fingerprint for fingerprint, name in lines}
    except (OSError, ValueError) as error:
        raise ContractError(
            f"{path} is not a list of fingerprints, as sha256sum writes them: {error}; restore it"
        ) from None


def _fingerprint(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _first_difference(now: bytes, was: bytes) -> int:
    pairs = zip(now.splitlines(), was.splitlines(), strict=False)
    return next((number for number, (line, old) in enumerate(pairs, 1) if line != old), 1)
