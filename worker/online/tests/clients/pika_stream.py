"""pika before and behind a stream: `pika_stream.py URL PREFIX queue|stream` sends to its events and reads what comes of it."""

import json
import sys
import time

import pika

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
prefix, kind = sys.argv[2:]
SOURCE, EXCHANGE, OUT = f"{prefix}.events", f"{prefix}.scores", f"{prefix}.out"
channel = connection.channel()
channel.exchange_declare(EXCHANGE, "topic", durable=True)
channel.queue_declare(OUT, durable=True)
channel.queue_bind(OUT, EXCHANGE, "scores.#")

CUSTOMERS = 7


def send(number, body=None):
    tensors = [{"name": name, "shape": [1], "datatype": "FP64", "data": [number]} for name in ("x", "y")]
    body = body or json.dumps({"inputs": tensors}).encode()
    properties = pika.BasicProperties(
        content_type="application/json",
        correlation_id=f"c-{number}",
        message_id=f"m-{number}" if kind == "queue" else None,
        headers={"customer": f"customer {number % CUSTOMERS}", "x-request-id": f"r-{number}"},
        timestamp=int(time.time()),
        delivery_mode=2,
    )
    channel.basic_publish("", SOURCE, body, properties)


for number in range(300):
    send(number)
send(300, b"{")
for number in range(301, 401):
    send(number)


def consume(queue, count):
    found = []
    for method, properties, body in channel.consume(queue, inactivity_timeout=120):
        assert method is not None, f"{queue} has only {len(found)} messages"
        channel.basic_ack(method.delivery_tag)
        found.append((method.routing_key, properties, body))
        if len(found) == count:
            break
    channel.cancel()
    return found


last = {}
ids = set()
for routing_key, properties, body in consume(OUT, 400):
    number = int(properties.correlation_id.removeprefix("c-"))
    answer = json.loads(body)
    assert answer["outputs"][0]["data"] == [2 * number], answer
    customer = number % CUSTOMERS
    assert routing_key == f"scores.customer {customer}", routing_key
    assert last.get(customer, -1) < number, "a customer's messages changed places"
    last[customer] = number
    headers = properties.headers
    assert headers["x-deduplication-header"] == properties.message_id, properties
    assert headers["gristmill-status"] == 200 and headers["gristmill-key"] == f"customer {customer}", headers
    assert headers["x-request-id"] == f"r-{number}" and headers["gristmill-model-version"] == "1", headers
    expected = f"orders/{SOURCE}/id:m-{number}" if kind == "queue" else f"orders/{SOURCE}/{number}"
    assert properties.message_id == expected, properties.message_id
    ids.add(properties.message_id)
assert len(ids) == 400

((_, properties, body),) = consume(f"{SOURCE}.dead", 1)
assert body == b"{" and "failed to read the body" in properties.headers["gristmill-reason"], properties
assert properties.headers["gristmill-attempts"] == 1 and properties.correlation_id == "c-300", properties
