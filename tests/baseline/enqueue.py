#!/usr/bin/env python3
"""How fast runs are enqueued, beside Celery and Dramatiq, all over one RabbitMQ in one go.

    pip install celery dramatiq[rabbitmq] -e 'client/python[queue]'
    python3 tests/baseline/enqueue.py GRISTMILL [--runs 10000] [--rounds 3]

Starts private servers (deploy/local/servers) and `gristmill up` on them. Each way is measured in each round; the rates are
the best and the median of the rounds. Over HTTP a submission is a checked run in the store when it is answered; over
RabbitMQ it is a confirmed message. Celery's `delay` and Dramatiq's `send` publish a task of one small argument as their
documentation does; Celery once more with confirms (`confirm_publish`).
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

import celery
import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

import gristmill

PIPELINE = "name: enqueued\nsteps:\n  a: { noop: {} }\n"
SERVERS = pathlib.Path(__file__).resolve().parents[2] / "deploy/local/servers"


def nothing(text):
    """What the peers' tasks do."""


def celery_task(url, confirm):
    options = {"confirm_publish": True} if confirm else {}
    app = celery.Celery(f"peer{confirm}", broker=url, broker_transport_options=options)
    app.conf.task_default_queue = f"celery-{confirm}"
    return app.task(nothing, name=f"peer{confirm}.noop")


def ways(url, api):
    plain, confirmed = celery_task(url, False), celery_task(url, True)
    dramatiq.set_broker(RabbitmqBroker(url=url))
    actor = dramatiq.actor(nothing, actor_name="noop")
    queue, client = gristmill.QueueClient(url), gristmill.Client(api)

    def each(call):
        def run(runs):
            for _ in range(runs):
                call(PIPELINE)

        return run

    return {
        "Celery, delay": each(plain.delay),
        "Celery, delay, confirms": each(confirmed.delay),
        "Dramatiq, send": each(actor.send),
        "gristmill, RabbitMQ, one a message, confirms": lambda runs: queue.submit_many([PIPELINE] * runs),
        "gristmill, RabbitMQ, 100 a message, confirms": lambda runs: queue.submit_many([PIPELINE] * runs, per_message=100),
        "gristmill, HTTP, 1,000 a request": lambda runs: client.submit_many([PIPELINE] * runs),
        "gristmill, HTTP, one by one (tenth of the runs)": lambda runs: each(client.submit)(runs // 10),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gristmill")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.gristmill)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([SERVERS, "start", folder], check=True, stdout=subprocess.DEVNULL)
        try:
            text = pathlib.Path(folder, "env").read_text()
            set_here = dict(re.findall(r"export (\w+)=['\"]?(.*?)['\"]?$", text, re.M))
            log = pathlib.Path(folder, "up.log")
            up = subprocess.Popen([program, "up", "--api", "127.0.0.1:0"], env=os.environ | set_here, cwd=folder, stderr=log.open("w"))
            try:
                while not (found := re.search(r"the API is at (http://[0-9.:]+);", log.read_text())):
                    time.sleep(0.05)
                measure(arguments, ways(set_here["GRISTMILL_BROKER"], found.group(1)))
            finally:
                up.terminate()
                up.wait()
        finally:
            subprocess.run([SERVERS, "stop", folder], check=True, stdout=subprocess.DEVNULL)


def measure(arguments, ways):
    rates = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            runs = arguments.runs // 10 if "tenth" in name else arguments.runs
            since = time.perf_counter()
            way(arguments.runs)
            rates[name].append(runs / (time.perf_counter() - since))
    print(f"{'runs/s':<50}{'best':>10}{'median':>10}")
    for name, found in rates.items():
        print(f"{name:<50}{max(found):>10,.0f}{statistics.median(found):>10,.0f}")


main()
