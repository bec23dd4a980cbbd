"""Submissions over a real RabbitMQ."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import pika
import pytest

from conftest import Cluster, Servers, wait_for
from gristmill import BadInputError, BadPipelineError, NotFoundError, TimedOutError, TooLargeError
from gristmill.messaging.client import MANY, ONE, QueueClient, Submission

PIPELINE = "name: nightly\nsteps:\n  a: { noop: {} }\n"


@pytest.fixture
def client(servers: Servers, request: pytest.FixtureRequest) -> Iterator[QueueClient]:
    """A client with a queue of its own, which nobody takes from."""
    prefix = f"test-{abs(hash(request.node.nodeid))}"
    with QueueClient(servers.env["GRISTMILL_BROKER"], prefix=prefix, timeout=60) as found:
        yield found


class Queue:
    """What is in a queue."""

    def __init__(self, servers: Servers, client: QueueClient) -> None:
        self.parameters = pika.URLParameters(servers.env["GRISTMILL_BROKER"])
        self.name = client._queue

    def take(self) -> list[tuple[Any, Any]]:
        """All messages: their properties and bodies."""
        found: list[tuple[Any, Any]] = []
        connection = pika.BlockingConnection(self.parameters)
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(self.name, auto_ack=True)
            if method is None:
                connection.close()
                return found
            found.append((properties, body))

    def delete(self) -> None:
        connection = pika.BlockingConnection(self.parameters)
        connection.channel().queue_delete(self.name)
        connection.close()


def test_a_submission_is_a_message(servers: Servers, client: QueueClient) -> None:
    receipt = client.submit(
        PIPELINE, params={"trees": 200}, key="nightly", namespace="research", priority=3, no_cache=True
    )
    assert (receipt.key, receipt.run) == ("nightly", None)
    ((properties, body),) = Queue(servers, client).take()
    assert properties.content_type == ONE
    assert properties.delivery_mode == 2
    assert properties.message_id == "nightly"
    assert abs(properties.timestamp - time.time()) < 120
    assert msgpack.unpackb(body) == {
        "pipeline": PIPELINE,
        "params": {"trees": 200},
        "key": "nightly",
        "namespace": "research",
        "priority": 3,
        "no_cache": True,
    }


def test_thousands_are_confirmed_together(servers: Servers, client: QueueClient) -> None:
    count = 10_000
    receipts = client.submit_many(PIPELINE for _ in range(count))
    keys = [receipt.key for receipt in receipts]
    assert len(set(keys)) == count
    messages = Queue(servers, client).take()
    assert [properties.message_id for properties, _ in messages] == keys


def test_a_message_may_carry_many(servers: Servers, client: QueueClient) -> None:
    receipts = client.submit_many([Submission(PIPELINE, key=f"k{at}") for at in range(250)], per_message=100)
    assert [receipt.key for receipt in receipts] == [f"k{at}" for at in range(250)]
    messages = Queue(servers, client).take()
    assert [properties.content_type for properties, _ in messages] == [MANY] * 3
    lists = [msgpack.unpackb(body) for _, body in messages]
    assert [len(one) for one in lists] == [100, 100, 50]
    assert [submission["key"] for one in lists for submission in one] == [f"k{at}" for at in range(250)]
    with pytest.raises(TooLargeError, match="per_message"):
        client.submit_many(["x" * 4_000] * 100, per_message=100)


def test_a_queue_that_was_deleted_is_made_again(servers: Servers, client: QueueClient) -> None:
    client.submit(PIPELINE, key="before")
    Queue(servers, client).delete()
    client.submit(PIPELINE, key="after")
    assert [properties.message_id for properties, _ in Queue(servers, client).take()] == ["after"]


def test_nothing_is_lost_when_the_broker_dies(servers: Servers, client: QueueClient) -> None:
    client.submit(PIPELINE, key="first")
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.submit_many, [Submission(PIPELINE, key=f"k{at}") for at in range(20_000)])
        wait_for("the first confirms", lambda: client._publisher._next_tag > 1_000 or sending.done())
        servers.kill("rabbitmq")
        servers.start("rabbitmq")
        receipts = sending.result()
    assert len(receipts) == 20_000
    found = {properties.message_id for properties, _ in Queue(servers, client).take()}
    assert {f"k{at}" for at in range(20_000)} <= found


def test_a_broker_that_is_away_is_waited_for_and_not_forever() -> None:
    with (
        QueueClient("amqp://guest:guest@127.0.0.1:1/%2f", timeout=0.5) as client,
        pytest.raises(TimedOutError, match=r"within 0\.5 s"),
    ):
        client.submit(PIPELINE)


def test_a_scheduler_answers(cluster: Cluster, servers: Servers) -> None:
    with QueueClient(servers.env["GRISTMILL_BROKER"], timeout=60) as client:
        run = client.submit(PIPELINE, key="answered", answer=True).run
        assert run is not None
        assert client.submit(PIPELINE, key="answered", answer=True).run == run
        assert cluster.wait(run)["status"] == "succeeded"
        receipts = client.submit_many([PIPELINE, "name: x\nsteps:\n  a: { nop: {} }\n", PIPELINE], answers=True)
        assert [receipt.error is None for receipt in receipts] == [True, False, True]
        with pytest.raises(BadPipelineError) as caught:
            client.submit("name: x\nsteps:\n  a: { nop: {} }\n", answer=True)
        assert caught.value.complaints[0].hint == "did you mean `noop`?"
        assert caught.value.complaints[0].line == 3


def test_rows_are_scored_by_queue(cluster: Cluster, servers: Servers, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"hour": at % 24, "carrier": ("AA", "UA")[at % 2], "delay": float(at * 37 % 60)} for at in range(600)
    ]
    lines = [f"{row['hour']},{row['carrier']},{row['delay']},{row['delay'] > 15}" for row in rows]
    (tmp_path / "flights.csv").write_text("hour,carrier,delay,late\n" + "\n".join(lines) + "\n")
    features = {"numeric": ["delay", "hour"], "categorical": ["carrier"]}
    run = cluster.submit(
        {
            "flights": {"ingest": {"source": str(tmp_path / "flights.csv")}},
            "model": {
                "train": {
                    "input": "flights",
                    "target": "late",
                    "features": features,
                    "algorithm": {"random_forest": {}},
                }
            },
            "release": {"register": {"model": "model", "name": "late", "alias": "champion"}},
        }
    )
    assert cluster.wait(run)["status"] == "succeeded"
    server = cluster.start(cluster.binary, "serve", "--listen", "127.0.0.1:0", "--queue")
    server.await_line("gristmill.score")
    with QueueClient(servers.env["GRISTMILL_BROKER"], timeout=60) as client:
        scores = client.score("late", rows)
        assert scores.model == "late"
        right = sum(bool(found) == (row["delay"] > 15) for found, row in zip(scores["prediction"], rows, strict=True))
        assert right > 550
        assert client.score("late", rows[:1], version="champion")["prediction"] == scores["prediction"][:1]
        with pytest.raises(NotFoundError, match="nobody"):
            client.score("nobody", rows[:1])
        with pytest.raises(BadInputError, match="delay"):
            client.score("late", [{"hour": 3}])
    with QueueClient(servers.env["GRISTMILL_BROKER"]) as client, pytest.raises(TimedOutError):
        client.score("late", rows[:1], queue="nobody.takes", timeout=0.5)
    assert server.end() == 0


def test_a_list_is_answered_one_by_one(cluster: Cluster, servers: Servers) -> None:
    with QueueClient(servers.env["GRISTMILL_BROKER"], timeout=60) as client:
        wrong = "name: x\nsteps:\n  a: { nop: {} }\n"
        receipts = client.submit_many([PIPELINE, wrong, PIPELINE], per_message=3, answers=True)
        assert [receipt.error is None for receipt in receipts] == [True, False, True]
        runs = [receipt.run for receipt in receipts if receipt.run]
        assert all(cluster.wait(run)["status"] == "succeeded" for run in runs)
