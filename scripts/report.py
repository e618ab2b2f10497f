"""Shows findings: to a person, to a program, or beside the changed lines of a pull request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import TextIO

from contract.gate import Finding, is_compatible

FORMATS = ("text", "json", "github")


def report(findings: Iterable[Finding], form: str, out: TextIO | None = None) -> None:
    """Print findings in one of the FORMATS, to standard output where nothing else is given."""
    shown = [_shorten(finding) for finding in findings]
    for line in {"text": _text, "json": _json, "github": _github}[form](shown):
        print(line, file=out)


def _text(findings: Sequence[Finding]) -> list[str]:
    """Group findings under their file, each with the line that it is about."""
    lines: list[str] = []
    once = sorted(dict.fromkeys(findings), key=lambda finding: finding.file)
    for file, group in groupby(once, key=lambda finding: finding.file):
        lines += ["", file] if lines else [file]
        for finding in group:
            place = f"{finding.line}:{finding.column}"
            lines += [f"  {place} {finding.severity} {finding.rule}{f' at {finding.path}' if finding.path else ''}"]
            lines += _quote(finding) if finding.path else []
            lines += [f"    {finding.message}", f"    to mend it: {finding.fix}"]
    return lines


def _json(findings: Sequence[Finding]) -> list[str]:
    return [
        json.dumps({"compatible": is_compatible(findings), "findings": [asdict(one) for one in findings]}, indent=2)
    ]


def _github(findings: Sequence[Finding]) -> list[str]:
    """Write a workflow command for each finding, which GitHub shows beside the line."""
    return [
        f"::{finding.severity} file={_escape(finding.file, ',:')},line={finding.line},col={finding.column},"
        f"title={_escape(finding.rule, ',:')}::{_escape(f'{finding.message}; to mend it: {finding.fix}')}"
        for finding in dict.fromkeys(findings)
    ]


def _escape(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _quote(finding: Finding) -> list[str]:
    path = Path(finding.file)
    lines = path.read_text("utf-8").splitlines() if path.suffix == ".avsc" and path.is_file() else []
    line = lines[finding.line - 1 : finding.line]
    return [f"    > {line[0].strip()[:160]}"] if line else []


def _shorten(finding: Finding) -> Finding:
    file, reader, writer = (name and _relative(name) for name in (finding.file, finding.reader, finding.writer))
    return replace(finding, file=file or "", reader=reader, writer=writer)


def _relative(name: str) -> str:
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else name
