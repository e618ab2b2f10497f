"""Every command in README and docs is run by a test, or it is said here why a test machine cannot run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Entered line by line, as they stand, by tests/integration/test_copy.py.
ENTERED = {"contract.md", "copy.md", "operations.md"}
SHELL = re.compile(r"(\. |servers=|cat |wc |echo |rm -r |python -c )")  # no command of ours
RUN_BY = {
    r"make demo": "integration/test_demo.py::test_the_demo_runs_from_an_empty_clone",
    r"make test": "nothing else: it is how these tests are run",
    r"make (up|down)": "containers/test_up.py::test_a_port_is_taken",
    r"docker compose (up --build --wait|down)": (
        "containers/test_load.py::test_down_and_up_again_loses_nothing_and_repeats_nothing"
    ),
    r"docker (build|run) .*": (
        "containers/test_workshop.py::test_our_image_runs_beside_servers_that_it_did_not_come_with"
    ),
    r"make stack(-down)?": "integration/test_stack.py::test_up_and_down",
    r"make stack-secure": "integration/test_secure.py::test_the_whole_restaurant_works",
    r"(TOPIC_PARTITIONS=3 )?cook": "integration/test_workshop.py::test_three_cooks_share_three_partitions",
    r"manager": "integration/test_workshop.py::test_cook_and_manager_both_receive_each_order",
    r"python -m consumers.cook": "integration/test_secure.py::test_what_a_service_lacks_it_says_when_it_starts",
    r"waiter( margherita 17)?": "integration/test_workshop.py::test_the_waiter_prints_the_workshops_line_for_each_run",
    r"waiter margherita 0": "integration/test_bad_input.py::test_a_wrong_order_is_refused_with_field_value_and_limit",
    r"waiter --orders (examples/orders|many).jsonl": (
        "integration/test_workshop.py::test_a_file_sent_again_is_recorded_once"
    ),
    r"waiter --orders examples/orders.v1.csv --schema-version 1": (
        "integration/test_workshop.py::test_both_consumers_read_both_schema_versions"
    ),
    r"waiter --orders bad.jsonl": (
        "integration/test_bad_input.py::test_a_bad_file_is_named_with_line_field_and_reason_and_nothing_is_sent"
    ),
    r"waiter --orders data/undelivered-\S+": (
        "integration/test_bad_input.py::test_what_is_not_acknowledged_is_kept_and_can_be_sent_again"
    ),
    r"waiter --orders tuesday.jsonl": (
        "integration/test_sent_again.py::test_a_copy_that_goes_on_is_refused_until_it_is_said_what_it_is"
    ),
    r"python scripts/register_schema.py": (
        "integration/test_registration.py::test_registration_sets_the_level_first_then_registers_in_order_and_again_is_a_no_op"
    ),
    r"python scripts/register_schema.py --plan": (
        "integration/test_registration.py::test_a_plan_shows_each_step_and_changes_nothing"
    ),
    r"python -m consumers.dead_letters (list|show|replay).*": (
        "integration/test_dead_letters.py::test_list_show_and_replay_say_what_they_find"
    ),
    r"python -m consumers.ledger verify": (
        "integration/test_ledger_commands.py::test_verify_finds_everything_there_and_names_what_is_not"
    ),
    r"python -m consumers.ledger adopt manager": (
        "integration/test_ledger_copies.py::test_a_moved_ledger_goes_on_once_it_is_adopted"
    ),
    r"python -m consumers.ledger duplicates": (
        "integration/test_ledger_commands.py::test_whoever_takes_a_recorded_identity_is_shown"
    ),
    r"DEAD_LETTER_LIMIT=\d+ python -m consumers.cook": (
        "integration/test_bad_input.py::test_raw_bytes_from_anybody_do_not_end_a_consumer"
    ),
    r"python -m consumers.ledger skip 0 \d+": (
        "integration/test_offsets.py::test_a_gap_that_is_all_there_is_is_no_record"
    ),
    r"python -m consumers.ledger summary": "integration/test_ledger_commands.py::test_summary_counts",
    r"python scripts/dev_certificates.py .*": (
        "containers/test_secure.py::test_an_order_goes_through_the_locked_overlay"
    ),
    r"docker compose .*docker-compose.secure.yaml up --build --wait": (
        "containers/test_secure.py::test_an_order_goes_through_the_locked_overlay"
    ),
    r"docker compose logs kafka \| grep -i started": (
        "containers/test_workshop.py::test_kafka_says_that_it_has_started"
    ),
    r"docker compose run --rm waiter margherita 17": (
        "containers/test_workshop.py::test_the_first_order_has_offset_0_and_the_second_offset_1"
    ),
    r"docker compose logs cook": "containers/test_workshop.py::test_the_cook_says_which_orders_it_received",
    r"docker compose exec manager cat /data/log.txt": (
        "containers/test_workshop.py::test_the_manager_writes_them_to_the_log_in_its_volume"
    ),
    r"docker compose run --rm -v .* waiter --orders .*": (
        "containers/test_load.py::test_two_cooks_share_a_file_of_10_000_orders_that_are_recorded_once"
    ),
}


def commands(document: Path) -> list[str]:
    """Give the commands in a document's blocks, without comments; what follows a line's end in quotes is its text."""
    found: list[str] = []
    for language, block in re.findall(r"```(console|sh)\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
        lines = [line for line in block.splitlines() if language == "sh" or line.startswith("$ ")]
        found += [re.sub(r"\s+#.*", "", line.removeprefix("$ ")) for line in lines]
    # In a locked shell each line begins with whose it is: `. .stack/secure/cook.env && python -m consumers.cook`.
    return [part for line in found for part in line.split(" && ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_run_by_a_test(document: Path) -> None:
    """A command that nobody has thought of fails here until a test runs it."""
    if document.name in ENTERED:
        assert document.name in (ROOT / "tests" / "integration" / "test_copy.py").read_text("utf-8")
        return
    ours = [command for command in commands(document) if not SHELL.match(command)]
    same = {"python -m producer.waiter": "waiter", "python scripts/make_topics.py": "make stack-secure"}
    for long, short in same.items():
        ours = [command.replace(long, short) for command in ours]
    assert [command for command in ours if not any(re.fullmatch(known, command) for known in RUN_BY)] == []


@pytest.mark.parametrize("test", sorted(set(RUN_BY.values())))
def test_the_tests_that_run_them_exist(test: str) -> None:
    """A test that was renamed is found here, and by its name who runs which command."""
    path, _, name = test.partition("::")
    if name:
        assert f"def {name}(" in (ROOT / "tests" / path).read_text("utf-8")
