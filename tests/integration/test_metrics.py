"""What a service tells at METRICS_PORT is what has happened: compared with the ledger, the letters and the topic."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection

import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from tests.hostile_registry import hostile_registry, says
from tests.restaurant import LIMIT, ROOT, Restaurant, Service, wait_until

pytestmark = pytest.mark.integration

ON = {"METRICS_PORT": "0"}


def ask(service: Service, path: str) -> tuple[int, str]:
    """Ask a service at the port that it has taken, which is in its log."""
    service.wait_for_error("/metrics")
    (port,) = re.findall(r"metrics are at http://127\.0\.0\.1:(\d+)/metrics", service.errors())
    connection = HTTPConnection("127.0.0.1", int(port), timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def wait_until_ready(service: Service) -> None:
    """Wait until a service says that it is."""
    wait_until(lambda: ask(service, "/readyz") == (200, "ok\n"), what="readiness")


def scrape(service: Service) -> dict[str, float]:
    """Give every sample by its name and labels, as a real scraper parses them."""
    status, text = ask(service, "/metrics")
    assert status == 200
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_counts_are_those_of_the_ledger_the_letters_and_the_topic(restaurant: Restaurant) -> None:
    """A file sent twice, poison among it: each number is told once, and adds up."""
    manager = restaurant.start("manager", ON)
    wait_until_ready(manager)
    path = restaurant.orders_file("orders.csv", "pizza,table", *(f"napoli,{table}" for table in range(1, 301)))
    for _ in range(2):
        assert restaurant.waiter("--orders", str(path)).returncode == 0
    producer = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    for value in (b"not framed", b"\0", None):
        producer.produce(restaurant.topic, value)
    assert producer.flush(10) == 0
    wait_until(lambda: restaurant.rows("SELECT next_offset FROM partitions") == [(603,)], what="all of it")
    at = f"group=manager,topic={restaurant.topic}"
    wait_until(lambda: scrape(manager)[f"consumer_lag_records{{group=manager,partition=0,{at[14:]}}}"] == 0, what="lag")

    told = scrape(manager)

    assert told[f"consumer_records_consumed_total{{{at}}}"] == 603
    assert told[f"consumer_records_handled_total{{{at}}}"] == 600
    ((rows,),) = restaurant.rows("SELECT count(*) FROM orders")
    ((duplicates,),) = restaurant.rows("SELECT count(*) FROM duplicates")
    assert told["ledger_rows{table=orders}"] == rows == 300
    assert told["ledger_duplicates_total{table=orders}"] == duplicates == 300
    letters = {name: value for name, value in told.items() if name.startswith("consumer_dead_letters_total") and value}
    assert letters == {
        f"consumer_dead_letters_total{{group=manager,reason={reason},{at[14:]}}}": 1
        for reason in ("not-framed", "too-short", "tombstone")
    }
    assert told[f"consumer_handling_seconds_count{{{at}}}"] >= 1
    assert told[f"consumer_end_to_end_latency_seconds_count{{{at}}}"] >= 2
    assert told[f"consumer_end_to_end_latency_seconds_sum{{{at}}}"] < 600 * LIMIT
    assert told[f"consumer_retries_total{{{at}}}"] == 0
    (schema,) = (name for name in told if name.startswith("contract_schema_info"))
    assert re.search(rf"\{{schema_id=\d+,subject={restaurant.topic}-value,user=manager,version=2\}}", schema)
    assert manager.stop() == 0


def test_healthz_tells_of_a_loop_that_hangs(restaurant: Restaurant) -> None:
    """Its standard output is a pipe that nobody reads; whoever asks is still answered."""
    short = {"STARTUP_TIMEOUT": "1", "DELIVERY_TIMEOUT": "1", "REQUEST_TIMEOUT": "1"}
    ours, theirs = os.pipe()
    error = restaurant.directory / "cook.err"
    with error.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "consumers.cook"],
            cwd=ROOT,
            env=restaurant.environment(ON | short),
            stdout=theirs,
            stderr=stderr,
        )
    os.close(theirs)
    cook = Service(process, error, error)
    restaurant.services.append(cook)
    try:
        wait_until_ready(cook)
        assert ask(cook, "/healthz") == (200, "ok\n")
        path = restaurant.orders_file("orders.csv", "pizza,table", *(f"napoli,{table}" for table in range(1, 5_001)))
        assert restaurant.waiter("--orders", str(path)).returncode == 0
        wait_until(lambda: ask(cook, "/healthz")[0] == 503, what="ill health")
        assert "the loop of cook has not turned for " in ask(cook, "/healthz")[1]
    finally:
        os.close(ours)


def test_a_consumer_is_ready_once_it_has_joined_even_without_a_partition(
    open_restaurant: Callable[..., Restaurant],
) -> None:
    """Before, it says what it waits for; two of one topic's single partition are both ready."""
    restaurant = open_restaurant()
    assert restaurant.register().returncode == 0
    nobody = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "STARTUP_TIMEOUT": "3", "REQUEST_TIMEOUT": "1"}
    waiting = restaurant.start("cook", ON | nobody)
    assert ask(waiting, "/readyz") == (503, "cook has not begun to poll\n")
    assert ask(waiting, "/healthz")[0] == 503
    cooks = [restaurant.start("cook", ON) for _ in range(2)]
    for cook in cooks:
        wait_until_ready(cook)
    held = [[name for name in scrape(cook) if name.startswith("consumer_lag_records")] for cook in cooks]
    assert sum(map(len, held)) <= 1  # of the one that has the partition
    restaurant.waiter()
    wait_until(
        lambda: (
            sorted(sum(name.startswith("consumer_lag_records") for name in scrape(cook)) for cook in cooks) == [0, 1]
        ),
        what="one lag",
    )


def test_a_new_group_that_is_stuck_at_its_first_message_has_a_lag(restaurant: Restaurant) -> None:
    """Though it has committed nothing yet, from which else the lag is counted."""
    with hostile_registry(restaurant.registry_url) as registry:
        cook = restaurant.start("cook", ON | {"SCHEMA_REGISTRY_URL": registry.url})
        cook.wait_for_error("cook was given partitions [0]")
        registry.answer = says({}, 500)
        assert restaurant.waiter("napoli", "3").returncode == 0
        cook.wait_for_error("cook waits, try 1 failed")
        at = f"consumer_lag_records{{group=cook,partition=0,topic={restaurant.topic}}}"
        wait_until(lambda: scrape(cook).get(at) == 1, what="a lag")
        registry.answer = None
        cook.wait_for_lines(1)
        wait_until(lambda: scrape(cook)[at] == 0, what="no lag")


def test_a_producer_tells_what_was_acknowledged(restaurant: Restaurant) -> None:
    """What was published is what was acknowledged and what failed."""
    code = """
from prometheus_client import REGISTRY
from contract.order import Order
from producer.waiter import create_producer
from runtime.settings import load_settings
from runtime.topics import connect
import json, os
producer = create_producer(connect(load_settings(os.environ)))
producer.publish_all([[Order(pizza="napoli", table=n, order_id=str(n)) for n in range(1, 201)]] * 3, print)
names = ("published", "acknowledged", "failed")
get = REGISTRY.get_sample_value
print(json.dumps([get(f"producer_records_{name}_total", {"topic": producer.topic}) for name in names]))
"""
    done = restaurant.run("-c", code, env=ON)
    assert json.loads(done.stdout.splitlines()[-1]) == [600, 600, 0], done.stderr


def test_a_port_that_is_taken_is_a_sentence(restaurant: Restaurant) -> None:
    """Two services of one machine need a port each."""
    cook = restaurant.start("cook", ON)
    cook.wait_for_error("/metrics")
    (port,) = re.findall(r"127\.0\.0\.1:(\d+)/metrics", cook.errors())
    refused = restaurant.run("-m", "consumers.manager", env={"METRICS_PORT": port})
    assert refused.returncode == 2
    assert f"METRICS_PORT {port} of METRICS_HOST 127.0.0.1 cannot be listened on: Address already in use" in (
        refused.stderr
    )
    wait_until(lambda: ask(cook, "/healthz")[0] == 200, what="health")
    healthy = restaurant.run("-m", "runtime.health", env={"METRICS_PORT": port})
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert cook.stop() == 0
    gone = restaurant.run("-m", "runtime.health", env={"METRICS_PORT": port})
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "does not answer" in gone.stderr


def test_json_logs_have_an_events_place_and_neither_payload_nor_secret(restaurant: Restaurant) -> None:
    """Every line parses; a message that breaks a limit is told of without the value that does."""
    schema_id = restaurant.registry.get_latest_version(f"{restaurant.topic}-value").schema_id
    assert schema_id is not None
    restaurant.make_topic()
    secret = "hunter2"  # noqa: S105 - the test's own
    producer = Producer({"bootstrap.servers": restaurant.bootstrap_servers})
    frame = b"\0" + schema_id.to_bytes(4, "big")
    producer.produce(restaurant.topic, frame + b"\x82\x01" + b"y" * 65 + b"\x06\x04id")  # a pizza of 65 characters
    for table in (3, 4):  # one identity, two orders
        producer.produce(restaurant.topic, frame + b"\x0cnapoli" + bytes([2 * table]) + b"\x04no")
    assert producer.flush(10) == 0
    env = {"LOG_FORMAT": "json", "KAFKA_SASL_PASSWORD": secret, "KAFKA_CLIENT_ID": f"a {secret}"}
    manager = restaurant.start("manager", ON | env)
    manager.wait_for_error("(handler)")
    assert manager.stop() == 0

    events = [json.loads(line) for line in manager.errors().splitlines()]

    letters = [
        {name: event.get(name) for name in ("topic", "partition", "offset", "reason", "record_id", "level")}
        for event in events
        if "dead letters" in event["message"]
    ]
    place = {"topic": restaurant.topic, "partition": 0, "level": "warning"}
    assert letters == [
        place | {"offset": 0, "reason": "breaks-limit", "record_id": None},
        place | {"offset": 2, "reason": "handler", "record_id": "no"},
    ]
    (reads,) = (event for event in events if " reads " in event["message"])
    assert reads["schema_id"] == schema_id
    assert all(event["time"].endswith("+00:00") for event in events)
    said = manager.errors()
    assert "napoli" not in said
    assert "yyy" not in said
    assert secret not in said


def test_json_logs_tell_of_a_command_that_cannot_run_too(restaurant: Restaurant) -> None:
    """A collector reads the last sentence as it reads the others, a wrong setting's included."""
    for wrong in ({"TOPIC_PARTITIONS": "0"}, {"SCHEMA_REGISTRY_URL": "http://127.0.0.1:1", "STARTUP_TIMEOUT": "1"}):
        done = restaurant.run("-m", "consumers.cook", env={"LOG_FORMAT": "json"} | wrong)
        assert done.returncode == 2
        assert json.loads(done.stderr.splitlines()[-1])["level"] == "error"
