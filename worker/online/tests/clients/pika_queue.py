"""pika as a client of the queue: answers, errors, direct reply-to, deadlines, many at a time."""

import gzip
import json
import struct
import sys
import time
import uuid

import pika

QUEUE = sys.argv[2]
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
replies = channel.queue_declare("", exclusive=True).method.queue
answers = {}


def answered(_channel, _method, properties, body):
    answers[properties.correlation_id] = (properties, body)


channel.basic_consume(replies, answered, auto_ack=True)


def send(body, headers=None, reply_to=replies, **properties):
    id = str(uuid.uuid4())
    properties.setdefault("content_type", "application/json")
    properties = pika.BasicProperties(reply_to=reply_to, correlation_id=id, headers=headers or {}, **properties)
    channel.basic_publish("", QUEUE, body, properties)
    return id


def wait(id):
    until = time.monotonic() + 60
    while id not in answers:
        assert time.monotonic() < until, "no answer"
        connection.process_data_events(time_limit=1)
    properties, body = answers.pop(id)
    return properties, body


def ask(body, headers=None, **properties):
    properties, body = wait(send(body, headers, **properties))
    return properties.headers["gristmill-status"], json.loads(body), properties


def tensor(name, *values):
    return {"name": name, "shape": [len(values)], "datatype": "FP64", "data": values}


def request(x, y):
    return json.dumps({"id": f"{x}", "inputs": [tensor("x", x), tensor("y", y)]}).encode()


status, answer, properties = ask(request(1.5, 2), {"x-request-id": "q-1"})
assert status == 200, answer
assert answer["outputs"][0]["data"] == [3.5] and answer["id"] == "1.5" and answer["model_name"] == "sum", answer
assert properties.headers["gristmill-model-version"] == "1" and properties.headers["x-request-id"] == "q-1", properties
assert properties.content_type == "application/json", properties

status, answer, _ = ask(request(1, 2), {"gristmill-model": "sum", "gristmill-model-version": "challenger"})
assert (status, answer["model_version"], answer["outputs"][0]["data"]) == (200, "2", [4]), answer
status, answer, _ = ask(gzip.compress(request(1, 2)), content_encoding="gzip")
assert status == 200, answer

head = json.dumps({
    "inputs": [
        {"name": name, "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}} for name in ("x", "y")
    ],
    "parameters": {"binary_data_output": True},
    "outputs": [{"name": "prediction"}],
}).encode()
properties, body = wait(send(
    head + struct.pack("<dd", 1.5, 2.5),
    {"inference-header-content-length": len(head)},
    content_type="application/octet-stream",
))
split = properties.headers["inference-header-content-length"]
assert struct.unpack("<d", body[split:]) == (4.0,), body

for body, headers, status, text in (
    (b"{", {}, 400, "failed to read the body"),
    (b"\xff", {}, 400, "not UTF-8"),
    (request(1, 2).replace(b'"y"', b'"z"'), {}, 400, "the request has no column `y`"),
    (request(1, 2), {"gristmill-model": "nothing"}, 404, "there is no model `nothing`"),
    (bytes(17 * 1024 * 1024), {}, 413, "over the limit"),
):
    found, answer, _ = ask(body, headers)
    assert found == status and text in answer["error"], (found, answer)
found, answer, _ = ask(request(1, 2), content_type="application/x-msgpack")
assert found == 415, answer

# Direct reply-to, which has no queue of its own.
direct = connection.channel()
got = []
direct.basic_consume("amq.rabbitmq.reply-to", lambda *all: got.append(all), auto_ack=True)
direct.basic_publish(
    "", QUEUE, request(20, 3), pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="d")
)
until = time.monotonic() + 60
while not got:
    assert time.monotonic() < until, "no direct answer"
    connection.process_data_events(time_limit=1)
assert got[0][2].correlation_id == "d" and json.loads(got[0][3])["outputs"][0]["data"] == [23], got

# Nobody to answer, and nobody who still wants to know: dropped. The first two have no address that leads anywhere.
send(request(1, 1), reply_to=None)
send(request(1, 1), reply_to="a-queue-that-is-not-there")
late = [
    send(request(1, 1), {"gristmill-timeout-ms": 1000}, timestamp=int(time.time()) - 60),
    send(request(1, 1), {"gristmill-timeout-ms": 0}),
]

many = {send(request(x, 1)): x for x in range(300)}
for id, x in many.items():
    properties, body = wait(id)
    assert json.loads(body)["outputs"][0]["data"] == [x + 1], body
assert not any(id in answers for id in late), "a late request was answered"
