"""Looks at dead letters and replays them: `python -m consumers.dead_letters list|show|replay`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence

from consumers.letters import Letter, headers_of, hexdump, read_letters, replay_letters
from contract.access import Permission, to_read_letters
from contract.binary import resolve
from contract.errors import PipelineError, Reason, SettingError, TopicError
from contract.lookups import parse_registered, schema_of
from contract.subjects import Subject, load_contract
from runtime.acls import require
from runtime.clients import admin_client, cluster_metadata, registry_client
from runtime.command import FAILED, OK, counted, create_parser, run_command
from runtime.settings import Settings
from runtime.topics import connect

_FRAME_BYTES = 5
_OFFSETS = range(2**63)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit 1 when no letter is the one that was asked for."""
    parser = create_parser("dead_letters", __doc__ or "", "python -m consumers.dead_letters list")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|replay")
    counted = actions.add_parser("list", help="count the letters of each consumer by reason")
    counted.add_argument("consumer", nargs="?", help="only this one's")
    shown = actions.add_parser("show", help="show one letter, its bytes, and what the schema makes of them")
    shown.add_argument("consumer")
    shown.add_argument("offset", type=int, help="of the letter in its topic")
    replayed = actions.add_parser("replay", help="give letters to their consumer, and to no other, once more")
    replayed.add_argument("consumer")
    replayed.add_argument("--reason", choices=[one.value for one in Reason], help="only letters of this reason")
    replayed.add_argument("--offset", type=int, action="append", help="only this letter; may be given again")
    return run_command(parser, run, arguments)


def run(flags: Namespace, settings: Settings) -> int:
    """Do what was asked for, and give the exit code."""
    subjects = list(load_contract(settings.schemas_dir).subjects.values())
    owned = [(subject, group) for subject in subjects for group in subject.readers if flags.consumer in {None, group}]
    if not owned:
        known = ", ".join(sorted({group for subject in subjects for group in subject.readers}))
        raise SettingError(f"{flags.consumer} is no consumer that subjects.yaml knows; there are {known}")
    needed = [permission for subject, group in owned for permission in to_read_letters(subject, group)]
    if flags.action == "replay":
        needed += [Permission("DESCRIBE", "topic", subject.topic) for subject, _ in owned]
    admin = admin_client(settings)
    cluster_metadata(admin, settings)  # which says why no connection comes about
    require(needed, admin, settings)
    actions = {"list": _list, "show": _show, "replay": _replay}
    codes = [actions[flags.action](flags, settings, subject, group) for subject, group in owned]
    return OK if OK in codes else FAILED


def _list(_flags: Namespace, settings: Settings, subject: Subject, group: str) -> int:
    topic = subject.dead_letters(group)
    try:
        counts = Counter(letter.reason for letter in read_letters(settings, topic))
    except TopicError:
        counts = Counter()  # its consumer makes the topic when it starts for the first time
    print(f"{topic}: {counted(counts.total(), 'letter')}")
    for reason, count in counts.most_common():
        print(f"  {reason:<16} {count:>8}")
    return OK


def _show(flags: Namespace, settings: Settings, subject: Subject, group: str) -> int:
    topic = subject.dead_letters(group)
    start = flags.offset if flags.offset in _OFFSETS else 0  # the client would make nothing of any other number
    letter = next(read_letters(settings, topic, start), None)
    if letter is None or letter.offset != flags.offset:
        print(f"{topic} has no letter at offset {flags.offset}", file=sys.stderr)
        return FAILED
    _print_letter(letter, settings, subject.version(subject.readers[group]).text)
    return OK


def _replay(flags: Namespace, settings: Settings, subject: Subject, group: str) -> int:
    replays = subject.replays(group)
    letters = read_letters(settings, subject.dead_letters(group))
    offsets = flags.offset or _OFFSETS
    today = connect(settings).find_topics(subject.topic).get(subject.topic)
    gone = Counter[str]()
    lost: list[str] = []

    def chosen() -> Iterator[Letter]:
        for one in letters:
            if flags.reason not in {None, one.reason} or one.offset not in offsets:
                continue
            if not one.is_of(today):
                gone[one.ids[0]] += 1
            elif one.lost:
                lost.append(f"letter {one.offset} is not replayed: {_why_lost(one)}")
            else:
                yield one

    count = replay_letters(settings, chosen(), replays)
    print(f"{counted(count, 'letter')} replayed to {replays}, which {group} alone reads")
    for topic_id, passed in gone.items():
        lost.append(
            f"{counted(passed, 'letter')} not replayed: of a topic {subject.topic} ({topic_id}) that is gone, today "
            f"it is {today or 'none'}; ask whoever sent this to publish it again"
        )
    for sentence in lost:
        print(sentence, file=sys.stderr)
    return OK if count and not lost else FAILED


def _print_letter(letter: Letter, settings: Settings, reader: str) -> None:
    value = letter.message.value() or b""
    print(f"letter      {letter.offset}")
    print(f"was at      {letter.topic} partition {letter.partition} offset {letter.original_offset}")
    print(f"reason      {letter.reason}: {ascii(letter.sentence)[1:-1]}")
    print(f"key         {letter.message.key()!r}")
    for name, content in headers_of(letter.message):
        print(f"header      {ascii(name)[1:-1]} = {content!r}")
    if letter.lost:
        print(f"value       none: {_why_lost(letter)}")
        return
    for line in hexdump(value):
        print(line)
    print(f"as schema   {_read_anyhow(value, settings, reader)}")


def _why_lost(letter: Letter) -> str:
    place = f"{letter.topic} partition {letter.partition} offset {letter.original_offset}"
    return f"the message is not in it, as {letter.lost}; it is at {place} for as long as that topic keeps it"


def _read_anyhow(value: bytes, settings: Settings, reader: str) -> str:
    """Say what the schema named in the bytes makes of them, limits aside."""
    schema_id = int.from_bytes(value[1:_FRAME_BYTES], "big")
    if len(value) < _FRAME_BYTES or value[0] != 0:
        return "nothing: they are not framed"
    try:
        registry = registry_client(settings)
        schema = schema_of(registry, schema_id)
        if schema is None:
            return f"nothing: the registry knows no schema of id {schema_id}"
        return ascii(resolve(value, parse_registered(registry, schema), reader, start=_FRAME_BYTES))
    except PipelineError as error:
        return f"nothing: {error}"


if __name__ == "__main__":
    sys.exit(main())
