"""The whole check of `schemas/`, offline: every level, every reader against every writer, every released file.

Nothing here asks a registry; what it finds is found before anything is registered, merged or deployed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contract.codegen import NoPythonTypeError, generate, module_path
from contract.compatibility import Incompatibility, Level, compare, required_reads
from contract.golden import Golden, decode_golden, golden_of, golden_path, read_golden
from contract.released import changed_files
from contract.rules import (
    SEVERITIES,
    AgreedRule,
    Severity,
    check_schema,
    compare_agreed,
    compare_edited,
    compare_limits,
)
from contract.subjects import Contract, SchemaFile, Subject


@dataclass(frozen=True)
class Finding:
    """One break: what it breaks and where, which schema reads and which writes, what happens to whom, what mends it.

    `path` is Java Avro's location for the rules of Avro, a JSON pointer for others; `line` and `column` count from 1.
    """

    rule: str
    severity: Severity
    path: str
    file: str
    line: int
    column: int
    reader: str | None
    writer: str | None
    message: str
    fix: str


def is_compatible(findings: Iterable[Finding]) -> bool:
    """Whether nothing worse than warnings was found."""
    return all(finding.severity != "error" for finding in findings)


def check(contract: Contract, baseline: Mapping[str, bytes] | None = None) -> tuple[Finding, ...]:
    """Give everything that keeps the contract from being merged; without errors among it, every reader is safe.

    `baseline` holds the files of `released/` before the change that is judged, by their names: they must still be so,
    and each version that is not among them is judged as it is released. Without it, only the edited schema is.
    """
    found = [
        finding_in(path, "RELEASED_CHANGED", f"{path.name} {what}", fix, line=line)
        for path, line, what, fix in changed_files(contract, baseline)
    ]
    found += [finding for subject in contract.subjects.values() for finding in _numbering(subject)]
    if found:
        return tuple(found)  # whatever else would be said rests on those files
    for subject in contract.subjects.values():
        since = [one for one in subject.released if baseline is not None and one.path.name not in baseline]
        found += [*check_release(subject, since), *_state(subject)]
    return tuple(found)


def check_release(subject: Subject, since: Sequence[SchemaFile] = ()) -> tuple[Finding, ...]:
    """Judge the edited schema, and the versions released `since`: what keeps them from being released, and warnings."""
    candidates = [*{_number(subject, file): file for file in (*since, subject.current)}.values()]
    edited = since if subject.is_released else candidates
    changes = [found for file in edited for found in _changes(subject, file)]
    again = _released_before(subject)
    roles = _roles(subject)
    return _without_off((*again, *_judge(subject, candidates), *changes, *roles, *_alone(subject), *_golden(subject)))


def check_versions(subject: Subject, versions: Sequence[SchemaFile]) -> tuple[Finding, ...]:
    """Judge released versions before they are registered, each by those before it, and by each reader."""
    return _without_off((*_numbering(subject), *(_judge(subject, versions) if versions else ())))


def check_schemas(level: Level, released: Sequence[SchemaFile], candidate: SchemaFile) -> tuple[Finding, ...]:
    """Judge one schema by others, oldest first, at a level: what Avro and limits refuse, and no other agreed rule."""
    return tuple(
        _finding(broken, reader, writer, candidate, f"{reader.path} {_verb(broken)} what {writer.path} wrote: ")
        for reader, writer in required_reads(level, released, candidate)
        for broken in (*compare(reader.parsed, writer.parsed), *compare_limits(reader.parsed, writer.parsed))
    )


def finding_in(
    file: SchemaFile | Path, rule: str, message: str, fix: str, *, line: int = 1, pointer: str = ""
) -> Finding:  # fmt: skip
    """Make a finding about one file, rather than about who reads what."""
    path, line, column = file.place(pointer) if isinstance(file, SchemaFile) else (file, line, 1)
    return Finding(rule, "error", pointer, str(path), line, column, None, None, message, fix)


def _judge(subject: Subject, candidates: Sequence[SchemaFile]) -> Iterator[Finding]:
    """Judge candidates by the versions before them at the subject's level, and by each reader, whatever the level."""
    pairs: dict[tuple[SchemaFile, SchemaFile], Sequence[str]] = {}
    for candidate in candidates:
        for pair in required_reads(subject.compatibility, _before(subject, candidate), candidate):
            pairs[pair] = ()
    for groups, reader, writers in _readers(subject, candidates):
        pairs |= dict.fromkeys(((reader, writer) for writer in writers), groups)
    for (reader, writer), groups in pairs.items():
        changed = max(reader, writer, key=lambda file: _number(subject, file))
        for broken in (*compare(reader.parsed, writer.parsed), *compare_agreed(reader.parsed, writer.parsed)):
            who = _who(groups, _label(subject, reader))
            what = f"{who} {_verb(broken)} `{subject.stem}` records written with {_label(subject, writer)}: "
            found = _finding(broken, reader, writer, changed, what, _severity(subject, broken))
            # Where both are released, only the version that a group reads with can be changed.
            yield found if changed in candidates else replace(found, fix=f"let {groups[0]} read with another version")


def _changes(subject: Subject, edited: SchemaFile) -> Iterator[Finding]:
    """Judge an edit by the version before it, whoever reads."""
    for before in _before(subject, edited)[-1:]:
        for broken in compare_edited(edited.parsed, before.parsed):
            yield _finding(broken, edited, before, edited, "", _severity(subject, broken))


def _alone(subject: Subject) -> Iterator[Finding]:
    """Judge the edited schema by itself."""
    for broken in check_schema(subject.current.parsed):
        found = finding_in(subject.current, broken.rule, broken.message, broken.fix_reader, pointer=broken.reader_at)
        yield replace(found, severity=_severity(subject, broken))


def _roles(subject: Subject) -> Iterator[Finding]:
    """Tell when the field is gone by which records are keyed or known again."""
    for role, name in (("key", subject.key), ("identity", subject.identity)):
        if name is not None and name not in subject.current.parsed.fields:
            message = f"{role} of {subject.name} is `{name}`, which is no field of {subject.current.path.name}"
            fix = f"keep the field, or name another {role} in subjects.yaml for all that is published from then on"
            yield finding_in(subject.current, f"{role.upper()}_MISSING", message, fix)


def _golden(subject: Subject) -> Iterator[Finding]:
    """Really decode, as each reader, golden bytes of each version; those of the edited schema are made for this."""
    goldens = {file: read_golden(file) for file in subject.released}
    if not subject.is_released:
        goldens[subject.current] = golden_of(subject.current)
    for groups, reader, _ in _readers(subject, [subject.current]):
        for writer, golden in goldens.items():
            reason = next(filter(None, (decode_golden(one, reader, writer) for one in golden)), None)
            if reason is not None and not compare(reader.parsed, writer.parsed):
                who = _who(groups, _label(subject, reader))
                message = f"{who} cannot read golden bytes of {_label(subject, writer)}: {reason}"
                file = writer if writer is subject.current else golden_path(writer)
                yield finding_in(file, "GOLDEN_BYTES", message, _mend_golden(groups, writer, golden))


def _mend_golden(groups: Sequence[str], writer: SchemaFile, golden: Sequence[Golden]) -> str:
    """Say what to do about golden bytes that are not read; those that were changed not even their own version reads."""
    if any(decode_golden(one, writer, writer) for one in golden):
        return "restore the file as it was released"
    read = f"let the {' and the '.join(groups)} read with another version"
    return f"{read}, or keep the type and add a new field for the other" if writer.number is None else read


def _state(subject: Subject) -> Iterator[Finding]:
    """Tell whether the edited schema is released, and its generated types are those of the released schemas."""
    if not subject.is_released:
        fix = f"run: python scripts/release_schema.py {subject.stem}"
        yield finding_in(subject.current, "NOT_RELEASED", "it is not the newest released version", fix)
        return
    path = module_path(subject)
    found = path.read_text("utf-8") if path.exists() else None
    try:
        expected = generate(subject)
    except NoPythonTypeError:
        expected = None
    if found != expected:
        message = f"contract/{path.name} is not what the released schemas generate"
        yield finding_in(path, "STALE_TYPES", message, "run: python scripts/generate_types.py")


def _released_before(subject: Subject) -> Iterator[Finding]:
    """Tell when the edited schema is an older version again, which no registry takes for a new one."""
    for version in () if subject.is_released else subject.released:
        if version.says_as(subject.current):
            message = f"it is version {version.number} again, which no registry takes for a new one"
            yield finding_in(subject.current, "SAME_AS_RELEASED", message, "change its doc, which says why it is back")


def _numbering(subject: Subject) -> Iterator[Finding]:
    numbers = [version.number for version in subject.released]
    if numbers != list(range(1, len(numbers) + 1)):
        message = f"the released versions of {subject.stem} are {numbers}, and are to be numbered from 1 without a gap"
        yield finding_in(subject.released[-1], "NUMBERING", message, "restore the missing file, or number the new one")


def _readers(
    subject: Subject, candidates: Sequence[SchemaFile]
) -> Iterator[tuple[Sequence[str], SchemaFile, Sequence[SchemaFile]]]:
    """Give the groups that read with each version, that version, and all that may be in the topic."""
    files = {_number(subject, file): file for file in (*subject.released, *candidates)}
    for number in sorted(set(subject.readers.values())):
        groups = [group for group, reads in subject.readers.items() if reads == number]
        yield groups, files.get(number) or subject.version(number), [*files.values()]


def _before(subject: Subject, file: SchemaFile) -> list[SchemaFile]:
    return [one for one in subject.released if _number(subject, one) < _number(subject, file)]


def _number(subject: Subject, file: SchemaFile) -> int:
    """Give the version that a file is, or will be once it is released."""
    return file.number or (subject.next_number - 1 if subject.is_released else subject.next_number)


def _label(subject: Subject, file: SchemaFile) -> str:
    return f"version {_number(subject, file)}" if file.number or subject.is_released else "the new schema"


def _who(groups: Sequence[str], version: str) -> str:
    return f"the {' and the '.join(groups)}, reading with {version}," if groups else f"a reader with {version}"


def _verb(broken: Incompatibility) -> str:
    if isinstance(broken.rule, AgreedRule):
        return "refuses" if broken.rule == AgreedRule.LIMIT_CHANGED else "misreads"
    return "cannot read"


def _severity(subject: Subject, broken: Incompatibility) -> Severity:
    return subject.rules.get(broken.rule, SEVERITIES[broken.rule]) if isinstance(broken.rule, AgreedRule) else "error"


def _without_off(found: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(finding for finding in found if finding.severity != "off")


def _finding(
    broken: Incompatibility,
    reader: SchemaFile,
    writer: SchemaFile,
    changed: SchemaFile,
    what: str,
    severity: Severity = "error",
) -> Finding:
    """Make a finding in the schema that was changed, at the place where it breaks, with what mends it there."""
    pointer, fix = (broken.reader_at, broken.fix_reader) if changed is reader else (broken.writer_at, broken.fix_writer)
    found = finding_in(changed, broken.rule, f"{what}{broken.message}", fix, pointer=pointer)
    path = broken.path or pointer
    return replace(found, severity=severity, path=path, reader=str(reader.path), writer=str(writer.path))
