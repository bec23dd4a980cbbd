"""Celery's application and its tasks; the broker and the results as the environment says.

Durable: RabbitMQ's queue and Celery's messages are by default (delivery mode 2), results are as durable as Redis is set.
By default a message counts as done when a task STARTS: a killed worker loses the task that it runs. With `late`
(`acks_late`, `reject_on_worker_lost`, and publisher confirms) it counts as done when the task has ended: then the task
runs again.
"""

import os

from celery import Celery

from systems import flights, work

LATE = os.environ.get("PEERS_CELERY_LATE") == "1"

app = Celery(
    "peers", broker=os.environ["GRISTMILL_BROKER"].replace("/%2f", "//"), backend=os.environ["GRISTMILL_STATE"]
)
app.conf.update(
    # "If you have many tasks with a short duration ... 64 or 128" (Optimizing: prefetch limits).
    worker_prefetch_multiplier=64,
    task_acks_late=LATE,
    task_reject_on_worker_lost=LATE,
    broker_transport_options={"confirm_publish": LATE},
    # RabbitMQ from 4.3 on refuses transient queues that aren't exclusive; nothing else changes by it.
    worker_enable_remote_control=False,
    result_expires=3600,
    broker_connection_retry_on_startup=True,
)

noop = app.task(work.noop, name="noop")


@app.task(name="hop")
def hop(done: int, load: str) -> int:
    """A step of a chain: a chain hands the result of the step before on as the first argument."""
    return work.hop(load, done)


total = app.task(work.total, name="total")
nap = app.task(work.nap, name="nap", ignore_result=True)
ingest = app.task(flights.ingest, name="ingest")
split = app.task(flights.split, name="split")
train = app.task(flights.train, name="train")
validate = app.task(flights.validate, name="validate")
score = app.task(flights.score, name="score")
