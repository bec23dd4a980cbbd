#!/usr/bin/env python3
"""How fast the API answers readers when there is much to read.

    python3 tests/baseline/reading.py GRISTMILL [--runs 100000] [--tasks 100000] [--asks 300]

Starts `gristmill up` in a folder of its own, submits so many runs and one run of so many tasks, waits until all have
ended, then asks each endpoint so many times over one connection and prints the median and the 99th percentile in
milliseconds. Standard library only.
"""

import argparse
import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

SMALL = "name: small\nsteps:\n  a: { noop: {} }\n"
LARGE = "name: large\nsteps:\n  a: { noop: { tasks: %d } }\n"


class Api:
    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address, timeout=120)

    def ask(self, method, path, body=None):
        payload = json.dumps(body) if body is not None else None
        self.connection.request(method, path, payload, {"content-type": "application/json"} if payload else {})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {data[:300]!r}")
        return json.loads(data)


def ended(api, name):
    return not api.ask("GET", f"/v1/runs?pipeline={name}&status=running&limit=1")["items"]


def wait(api, name, limit_s=1800):
    since = time.monotonic()
    while not ended(api, name):
        if time.monotonic() - since > limit_s:
            raise SystemExit(f"runs of {name} haven't ended within {limit_s} s")
        time.sleep(0.5)
    return time.monotonic() - since


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gristmill")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--asks", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "up.log")
        up = subprocess.Popen(
            [arguments.gristmill, "up", "--api", "127.0.0.1:0"], cwd=folder, stderr=log.open("w"), stdout=subprocess.DEVNULL
        )
        try:
            measure(arguments, log)
        finally:
            up.terminate()
            up.wait()


def measure(arguments, log):
    found = None
    while found is None:
        found = re.search(r"the API is at http://([0-9.:]+);", log.read_text())
        time.sleep(0.05)
    api = Api(found.group(1))
    since = time.monotonic()
    for first in range(0, arguments.runs, 1000):
        count = min(1000, arguments.runs - first)
        results = api.ask("POST", "/v1/runs/batch", {"submissions": [{"pipeline": SMALL}] * count})["results"]
        wrong = [result for result in results if "run" not in result]
        if wrong:
            raise SystemExit(f"refused: {wrong[0]}")
        print(f"\r{first + count} runs submitted", end="", file=sys.stderr)
    rate = arguments.runs / (time.monotonic() - since)
    print(f"\n{rate:,.0f} submissions/s in batches of 1,000, over one connection", file=sys.stderr)
    took = wait(api, "small")
    print(f"they had ended {took:.1f} s after the last", file=sys.stderr)
    large = api.ask("POST", "/v1/runs", {"pipeline": LARGE % arguments.tasks})["run"]
    wait(api, "large")
    some = api.ask("GET", "/v1/runs?pipeline=small&limit=500")["items"]
    cursor = api.ask("GET", "/v1/runs?limit=500")["next"]
    task = arguments.tasks // 2
    paths = {
        "list of runs": "/v1/runs",
        "list, a page of 500": "/v1/runs?limit=500",
        "list, further on": f"/v1/runs?cursor={cursor}",
        "list by pipeline": "/v1/runs?pipeline=small",
        "list by status": "/v1/runs?status=succeeded",
        "list by status, none": "/v1/runs?status=failed",
        "list by pipeline and status": "/v1/runs?pipeline=large&status=succeeded",
        "search by id": f"/v1/runs?search={some[-1]['run'][-8:]}",
        "datasets": "/v1/datasets",
        "pools": "/v1/pools",
        "workers": "/v1/workers",
        "models": "/v1/models",
        "a small run": [f"/v1/runs/{item['run']}" for item in some],
        "the large run": f"/v1/runs/{large}",
        "its timeline": f"/v1/runs/{large}/timeline",
        "its explanation": f"/v1/runs/{large}/explain",
        "its tasks": f"/v1/runs/{large}/tasks?limit=50",
        "its tasks, further on": f"/v1/runs/{large}/tasks?limit=50&cursor={task}",
        "its tasks by status, none": f"/v1/runs/{large}/tasks?status=failed",
        "one of its tasks": f"/v1/runs/{large}/tasks/{task}",
    }
    print(f"{'endpoint':<30}{'first':>10}{'p50 ms':>10}{'p99 ms':>10}")
    for name, path in paths.items():
        path = path if isinstance(path, list) else [path]
        times = []
        for number in range(arguments.asks):
            since = time.perf_counter()
            api.ask("GET", path[number % len(path)])
            times.append((time.perf_counter() - since) * 1e3)
        first = times[0]
        times.sort()
        print(f"{name:<30}{first:>10.1f}{times[len(times) // 2]:>10.1f}{times[int(len(times) * 0.99)]:>10.1f}")


main()
