"""`gristmill serve` beside other model servers: requests a second and their times, from start to first answer, and many models.

    python tests/baseline/serving.py GRISTMILL [--constant PROGRAM] [--many PROGRAM] [--rounds 5] [--seconds 2]
        [--only PATTERN] [--json FILE]

Needs `wrk`. Everybody answers for one row with a forest of 100 trees of depth 12, learned from two months of the flights of
examples/flight-delays, in processes of their own on this machine, beside the load. All are up for the whole time and are
asked in turns; figures are medians of the rounds. Servers with several processes are there with one and with two: read the
better line. Python's servers have an environment each in ~/.cache/gristmill-serving, made when it is missing; a server that
can't be installed or doesn't start is named and left out.

`--constant` and `--many` are the examples `constant` of gristmill-online (axum: parses the same request, answers a constant)
and `many_models` of gristmill-registry (for 10,000 models). Without them these lines are missing.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PEERS = os.path.join(ROOT, "loadtest", "peers", "servers")
ENVIRONMENTS = os.path.join(os.path.expanduser("~"), ".cache", "gristmill-serving")
LEARNING = ["scikit-learn==1.9.1", "numpy==2.4.6", "pandas==3.1.1"]
PACKAGES = {
    "fastapi": ["fastapi==0.165.0", "uvicorn[standard]==0.54.0", "onnxruntime==1.32.0", "skl2onnx==1.20.0", *LEARNING],
    "mlflow": ["mlflow==3.17.2", *LEARNING],
    "bentoml": ["bentoml==1.4.39", *LEARNING],
    "mlserver": ["mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop==0.21.0", *LEARNING],
}
PIPELINE = """name: serving
steps:
  flights: { ingest: { source: data } }
  known:
    transform:
      sql: >
        select month, hour, carrier, origin, dest, distance, dep_delay, arr_delay > 15 as late
        from flights where arr_delay is not null
  model:
    train:
      input: known
      target: late
      features: { numeric: [dep_delay, distance, hour], categorical: [carrier, origin, dest, month] }
      algorithm: { random_forest: { trees: 100, max_depth: 12 } }
  release: { register: { model: model, name: flights, alias: champion } }
  few:
    train:
      input: known
      target: late
      features: { numeric: [dep_delay, distance, hour] }
      algorithm: { gradient_boosting: { iterations: 20, max_leaves: 8 } }
  release-few: { register: { model: few, name: small, alias: champion } }
"""
CONNECTIONS = (1, 8, 64)
STARTS = 5
MODELS = 10_000
# Python's servers take some seconds to import what they need; others are compiling here at times.
START_SECONDS_MAX = 120


def programs(name):
    """The programs of an environment, which is made by need; nothing when its packages can't be had."""
    folder = os.path.join(ENVIRONMENTS, name)
    made, packages = os.path.join(folder, "packages"), "\n".join(PACKAGES[name])
    if os.path.exists(made) and open(made).read() == packages:
        return os.path.join(folder, "bin")
    print(f"makes the environment {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [os.path.join(folder, "bin", "python"), "-m", "pip", "install", "--quiet", *PACKAGES[name]]
    if subprocess.run(pip).returncode != 0:
        return None
    with open(made, "w") as file:
        file.write(packages)
    return os.path.join(folder, "bin")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, path, body, timeout=10):
    """The status and the body of one answer; an error while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("POST" if body else "GET", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


class Server:
    """A server's process; `make` gives its command for a port."""

    def __init__(self, name, make, path, body, cwd, env=None):
        self.name, self.path, self.body, self.port = name, path, json.dumps(body), free_port()
        self.log = tempfile.TemporaryFile()
        env = os.environ | (env or {})
        # A group of its own, so that the end reaches the processes that it starts too.
        self.process = subprocess.Popen(
            make(self.port), cwd=cwd, env=env, stdout=self.log, stderr=self.log, stdin=subprocess.PIPE, start_new_session=True
        )

    def first_answer(self):
        """Waits for the first prediction; whether there was one."""
        limit = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < limit and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, answer = ask(self.port, self.path, self.body)
                if status == 200:
                    print(f"{self.name}: {answer[:160].decode()}", file=sys.stderr)
                    return True
            time.sleep(0.05)
        self.log.seek(0)
        print(f"{self.name} gave no prediction:\n{self.log.read().decode()[-2000:]}", file=sys.stderr)
        return False

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def gristmill(program, home_folder, port, *more):
    return [program, "serve", "--home", os.path.join(home_folder, ".gristmill"), "--listen", f"127.0.0.1:{port}", *more]


def v2_row(named):
    """One row as Open Inference V2 has it, with the texts as they are."""
    datatype = lambda value: "BYTES" if isinstance(value, str) else "FP64" if isinstance(value, float) else "INT64"
    tensors = [{"name": name, "shape": [1], "datatype": datatype(value), "data": [value]} for name, value in named.items()]
    return {"inputs": tensors}


def servers(options, folder, peers, row):
    """What `Server` takes, for each that can be had."""
    path, body = "/v2/models/flights/infer", v2_row(row["named"])
    yield ("gristmill serve", lambda port: gristmill(options.gristmill, folder, port), path, body, folder)
    if options.constant:
        yield ("axum, a constant", lambda port: [options.constant, f"127.0.0.1:{port}"], path, body, folder)
    numbers = {"rows": [row["numbers"]]}
    if bin := programs("fastapi"):
        for engine, named in (("onnx", "ONNX Runtime"), ("sklearn", "scikit-learn")):
            for workers in (1, 2):
                make = lambda port: [
                    os.path.join(bin, "python"), "-m", "uvicorn", "fastapi_app:app", "--app-dir", PEERS, "--port", str(port),
                    "--workers", str(workers), "--log-level", "warning", "--no-access-log",
                ]
                env = {"ENGINE": engine, "FOLDER": peers}
                yield (f"FastAPI + {named}, {workers} proc.", make, "/predict", numbers, folder, env)
    if bin := programs("mlflow"):
        if not os.path.exists(os.path.join(peers, "mlflow")):
            make_model = [os.path.join(bin, "python"), os.path.join(PEERS, "mlflow_model.py"), peers]
            subprocess.run(make_model, check=True, capture_output=True)
        for workers in (1, 2):
            make = lambda port: [
                os.path.join(bin, "mlflow"), "models", "serve", "-m", os.path.join(peers, "mlflow"), "--env-manager", "local",
                "-h", "127.0.0.1", "-p", str(port), "-w", str(workers),
            ]
            # Its server is started by name.
            env = {"PATH": bin + os.pathsep + os.environ["PATH"], "MLFLOW_DISABLE_TELEMETRY": "true"}
            yield (f"MLflow, {workers} proc.", make, "/invocations", {"inputs": [row["numbers"]]}, folder, env)
    if bin := programs("bentoml"):
        for workers in (1, 2):
            make = lambda port: [
                os.path.join(bin, "bentoml"), "serve", "bento_service:Forest", "--working-dir", PEERS,
                "--host", "127.0.0.1", "--port", str(port),
            ]
            env = {"WORKERS": str(workers), "FOLDER": peers, "BENTOML_DO_NOT_TRACK": "true"}
            yield (f"BentoML, {workers} proc.", make, "/predict", numbers, folder, env)
    if bin := programs("mlserver"):
        tensor = {"name": "x", "shape": [1, 7], "datatype": "FP32", "data": row["numbers"]}
        body = {"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}
        for workers in (0, 2):
            make = lambda port: [os.path.join(bin, "mlserver"), "start", mlserver_folder(peers, port, workers)]
            # 0: in the server's own process.
            yield (f"MLServer, {workers or 1} proc.", make, "/v2/models/flights/infer", body, folder)


def mlserver_folder(peers, port, workers):
    folder = os.path.join(peers, f"mlserver-{workers}")
    os.makedirs(folder, exist_ok=True)
    settings = {
        "debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(),
        "parallel_workers": workers, "metrics_endpoint": None,
    }
    model = {
        "name": "flights",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": os.path.join(peers, "forest.joblib"), "version": "1"},
    }
    for name, content in (("settings.json", settings), ("model-settings.json", model)):
        with open(os.path.join(folder, name), "w") as file:
            json.dump(content, file)
    return folder


def wrk(server, connections, seconds, folder):
    """Requests a second with 200, p50 and p99 in ms, and answers with another status."""
    script = os.path.join(folder, "request.lua")
    with open(script, "w") as file:
        file.write(f'wrk.method = "POST"\nwrk.body = [==[{server.body}]==]\nwrk.headers["Content-Type"] = "application/json"\n')
    url = f"http://127.0.0.1:{server.port}{server.path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
    times = {part: float(n) * unit[u] for part, n, u in re.findall(r"^ +(\d+)% +([\d.]+)(us|ms|s|m)$", said, re.M)}
    # Without a single answer it took longer than the measurement.
    at = lambda part: times.get(str(part)) or seconds * 1e3
    wrong = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", said))
    requests, taken = re.search(r"(\d+) requests in ([\d.]+)s", said).groups()
    return {"rate": (int(requests) - wrong) / float(taken), "p50": at(50), "p99": at(99), "wrong": wrong}


def compare(options, folder, peers, row):
    """Rates and times of each server that is up, by connections."""
    up, figures = [], {}
    try:
        for server in servers(options, folder, peers, row):
            if re.search(options.only, server[0]):
                up.append(Server(*server))
        up_well = [server for server in up if server.first_answer()]
        for server in up_well:
            wrk(server, 8, 1, folder)
        for _ in range(options.rounds):
            for connections in CONNECTIONS:
                for server in up_well:
                    seen = wrk(server, connections, options.seconds, folder)
                    figures.setdefault(server.name, {}).setdefault(connections, []).append(seen)
    finally:
        for server in up:
            server.end()
    middle = lambda runs: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    return {name: {at: middle(runs) for at, runs in by.items()} for name, by in figures.items()}


def cold_starts(options, folder, row):
    """Milliseconds from the process's start to its first prediction, each time anew."""
    body, times = json.dumps(v2_row(row["named"])), []
    for _ in range(STARTS):
        port = free_port()
        began = time.monotonic()
        command = gristmill(options.gristmill, folder, port)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ask(port, "/v2/models/flights/infer", body)[0] == 200:
                    break
            if process.poll() is not None or time.monotonic() - began > START_SECONDS_MAX:
                sys.exit(f"{command} gave no prediction")
            time.sleep(0.001)
        times.append((time.monotonic() - began) * 1000)
        process.terminate()
        process.wait(30)
    return times


def many_models(options, folder, row):
    """10,000 models that are there, then all in memory."""
    began = time.monotonic()
    subprocess.run([options.many, os.path.join(folder, ".gristmill"), "small", str(MODELS)], check=True)
    told = {"models": MODELS, "register_seconds": time.monotonic() - began}
    few = {name: row["named"][name] for name in ("dep_delay", "distance", "hour")}
    began = time.monotonic()
    server = Server(
        "gristmill serve, many models", lambda port: gristmill(options.gristmill, folder, port, "--memory", "1024"),
        "/v2/models/many-0/infer", v2_row(few), folder,
    )
    try:
        if not server.first_answer():
            sys.exit(1)
        told["start_ms"] = (time.monotonic() - began) * 1000
        told["rss_before_mib"] = resident_mib(server.process.pid)
        began = time.monotonic()
        listed = json.loads(ask(server.port, "/v2/models", None)[1])["models"]
        told["list_ms"] = (time.monotonic() - began) * 1000
        assert len(listed) == MODELS + 2, len(listed)
        connection, times = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60), []
        for at in range(MODELS):
            began = time.monotonic()
            connection.request("POST", f"/v2/models/many-{at}/infer", server.body)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, (at, answer.status, text)
            times.append((time.monotonic() - began) * 1000)
        times.sort()
        told |= {"first_p50_ms": times[MODELS // 2], "first_p99_ms": times[MODELS * 99 // 100], "first_max_ms": times[-1]}
        told["rss_mib"] = resident_mib(server.process.pid)
        metrics = ask(server.port, "/metrics", None)[1].decode()
        held = re.findall(r"^(gristmill_[a-z_]*models[a-z_]*(?:\{[^}]*\})?) (\S+)$", metrics, re.M)
        told["metrics"] = {name: float(value) for name, value in held}
        return told
    finally:
        server.end()


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) / 1024


def table(figures):
    lines = ["| server | " + " | ".join(f"{at} conn.: /s | p50 ms | p99 ms" for at in CONNECTIONS) + " | not 200 |"]
    lines.append("|---" * (2 + 3 * len(CONNECTIONS)) + "|")
    for name, by in figures.items():
        cells = [f"{by[at]['rate']:,.0f} | {by[at]['p50']:.2f} | {by[at]['p99']:.2f}" for at in CONNECTIONS]
        wrong = sum(by[at]["wrong"] for at in CONNECTIONS)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {wrong:.0f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gristmill", type=os.path.abspath)
    parser.add_argument("--constant", type=os.path.abspath)
    parser.add_argument("--many", type=os.path.abspath)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--only", default="", help="a pattern for the names of servers")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    # So that whoever ends this ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    told = {"cores": os.cpu_count(), "load_before": os.getloadavg()}
    with tempfile.TemporaryDirectory() as folder:
        data, peers = os.path.join(folder, "data"), os.path.join(folder, "peers")
        os.mkdir(data)
        os.mkdir(peers)
        for month in (1, 2):
            shutil.copy(os.path.join(ROOT, f"examples/flight-delays/data/flights-2013-{month:02}.csv.gz"), data)
        with open(os.path.join(folder, "serving.yaml"), "w") as file:
            file.write(PIPELINE)
        subprocess.run([options.gristmill, "run", "serving.yaml"], cwd=folder, check=True, capture_output=True)
        learner = programs("fastapi") or sys.exit("the environment that trains the others' forest can't be had")
        subprocess.run([os.path.join(learner, "python"), os.path.join(PEERS, "forest.py"), data, peers], check=True)
        with open(os.path.join(peers, "row.json")) as file:
            row = json.load(file)
        print(f"{os.cpu_count()} cores; load before: {told['load_before'][0]:.1f}\n", flush=True)
        told["servers"] = compare(options, folder, peers, row)
        print(table(told["servers"]), flush=True)
        told["cold_start_ms"] = cold_starts(options, folder, row)
        each = ", ".join(f"{ms:.0f}" for ms in told["cold_start_ms"])
        print(f"\nfrom start to first prediction: median {statistics.median(told['cold_start_ms']):.0f} ms of {each}", flush=True)
        if options.many:
            told["many"] = many_models(options, folder, row)
            print("\n10,000 models: " + ", ".join(f"{key} {value:,.1f}" for key, value in told["many"].items() if key != "metrics"))
            print(told["many"]["metrics"])
    told["load_after"] = os.getloadavg()
    print(f"\nload after: {told['load_after'][0]:.1f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(told, file, indent=2)


if __name__ == "__main__":
    main()
