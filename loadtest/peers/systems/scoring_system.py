"""One scoring server with one model: single rows over HTTP, as an open loop at rates that rise until it is too slow.

The load is `gristmill loadtest scoring --target`: requests are due at times of a Poisson process whether answers come or
not, and latency counts from when a request was due (no coordinated omission). Every server is started as its documents
advise for two cores and answers for a forest of 100 trees of depth 12, learned from two months of flights.
"""

import http.client
import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.processes import members, pss_mib, wait_until
from systems.driver import Figures, System, run

HERE = Path(__file__).resolve().parent
SERVERS = HERE.parent / "servers"
START_SECONDS_MAX = 120.0
"""Python's servers take some seconds to import what they need."""
MEASURE_SECONDS_MAX = 600.0
"""Twenty rates of some seconds each, for the server and for the constant one beside it."""
PIPELINE = (HERE / "forest.yaml").read_text()

Command = list[str | Path]
Row = dict[str, Any]
Body = dict[str, Any]


def fastapi(engine: str) -> Callable[["ScoringSystem", Row], tuple[Command, str, Body]]:
    """FastAPI on uvicorn, with one process: with two, which share the cores with the load, it was slower."""

    def make(system: "ScoringSystem", row: Row) -> tuple[Command, str, Body]:
        os.environ["ENGINE"] = engine
        command: Command = [
            *system.python("uvicorn"),
            "fastapi_app:app",
            "--app-dir",
            SERVERS,
            "--port",
            str(system.port),
        ]
        command += ["--log-level", "warning", "--no-access-log"]
        return command, "/predict", {"rows": [row["numbers"]]}

    return make


def mlflow(system: "ScoringSystem", row: Row) -> tuple[Command, str, Body]:
    """`mlflow models serve` with two processes."""
    system.call([sys.executable, SERVERS / "mlflow_model.py", system.peers])
    # Its server is started by name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    command: Command = ["mlflow", "models", "serve", "-m", system.peers / "mlflow", "--env-manager", "local"]
    command += ["-h", "127.0.0.1", "-p", str(system.port), "-w", "2"]
    return command, "/invocations", {"inputs": [row["numbers"]]}


def bentoml(system: "ScoringSystem", row: Row) -> tuple[Command, str, Body]:
    """A BentoML service with two workers."""
    os.environ |= {"WORKERS": "2", "BENTOML_DO_NOT_TRACK": "true"}
    command: Command = [*system.python("bentoml"), "serve", "bento_service:Forest", "--working-dir", SERVERS]
    command += ["--host", "127.0.0.1", "--port", str(system.port)]
    return command, "/predict", {"rows": [row["numbers"]]}


def mlserver(system: "ScoringSystem", row: Row) -> tuple[Command, str, Body]:
    """MLServer with the model in the server's own process: its pool of two was slower here."""
    folder = system.folder / "mlserver"
    folder.mkdir()
    settings = {
        "debug": False, "host": "127.0.0.1", "http_port": system.port, "grpc_port": free_port(),
        "metrics_port": free_port(), "parallel_workers": 0, "metrics_endpoint": None,
    }  # fmt: skip
    model = {
        "name": "flights",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(system.peers / "forest.joblib"), "version": "1"},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    tensor = {"name": "x", "shape": [1, len(row["numbers"])], "datatype": "FP32", "data": row["numbers"]}
    body = {"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}
    return [Path(sys.executable).parent / "mlserver", "start", folder], "/v2/models/flights/infer", body


def gristmill(system: "ScoringSystem", row: Row) -> tuple[Command, str, Body]:
    """`gristmill serve` on the home in which the model was trained and registered."""
    command: Command = [
        system.program,
        "serve",
        "--home",
        system.folder / ".gristmill",
        "--listen",
        f"127.0.0.1:{system.port}",
    ]
    kinds = {str: "BYTES", float: "FP64", int: "INT64"}
    named = row["named"].items()
    tensors = [{"name": name, "shape": [1], "datatype": kinds[type(value)], "data": [value]} for name, value in named]
    return command, "/v2/models/flights/infer", {"inputs": tensors}


KINDS = {
    "fastapi-onnx": fastapi("onnx"),
    "fastapi-sklearn": fastapi("sklearn"),
    "mlflow": mlflow,
    "bentoml": bentoml,
    "mlserver": mlserver,
    "gristmill": gristmill,
}


class ScoringSystem(System):
    """`{"program": FILE, "server": NAME, "learner": PYTHON, "data": FOLDER}`; `learner` has scikit-learn and skl2onnx."""

    def start(self) -> None:
        """Trains the model, starts the server, and checks an answer."""
        self.program, self.port = str(self.options["program"]), free_port()
        self.peers, data = self.folder / "peers", self.folder / "data"
        for folder in (self.peers, data):
            folder.mkdir(parents=True)
        for month in (1, 2):
            shutil.copy(Path(self.options["data"]) / f"flights-2013-{month:02}.csv.gz", data)
        # The forest of the others is trained for ours as well: its row is what all are asked, its answer what is expected.
        self.call([self.options["learner"], SERVERS / "forest.py", data, self.peers])
        row = json.loads((self.peers / "row.json").read_text())
        server: str = self.options["server"]
        if server == "gristmill":
            (self.folder / "forest.yaml").write_text(PIPELINE)
            self.call([self.program, "run", "forest.yaml"])
        os.environ["FOLDER"] = str(self.peers)
        command, path, body = KINDS[server](self, row)
        self.url, self.body = f"http://127.0.0.1:{self.port}{path}", self.folder / "body.json"
        self.body.write_text(json.dumps(body))
        # What was set above is the server's alone to read.
        self.processes.env = dict(os.environ)
        self.processes.start("server", command, cwd=self.folder)
        wait_until("the server answers", self.answers, START_SECONDS_MAX, 0.1)
        found = probability(self.asked()[1])
        # Ours has learned another forest of the same kind from the same rows.
        if not math.isclose(found, row["probability"], abs_tol=0.1 if server == "gristmill" else 1e-4):
            raise AssertionError(f"it answers {found} where {row['probability']} is expected")

    def python(self, module: str) -> Command:
        """This environment's Python with a module."""
        return [sys.executable, "-m", module]

    def call(self, command: Command) -> None:
        """Runs a command in the system's folder; what it says is shown when it fails."""
        done = subprocess.run([str(part) for part in command], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed: {done.stderr[-1000:]}")

    def asked(self) -> tuple[int, Any]:
        """The status and the body of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            path = self.url.partition(f":{self.port}")[2]
            connection.request("POST", path, self.body.read_bytes(), {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether the server answers with a prediction by now."""
        if self.processes.running["server"].poll() is not None:
            raise RuntimeError(f"the server has ended:\n{self.processes.said('server')[-2000:]}")
        try:
            return self.asked()[0] == 200
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def scoring(self, seconds: float, rates: list[float]) -> Figures:
        """The highest rate that is held, and latencies at half of it; memory of all the server's processes after it."""
        command = [
            self.program,
            "loadtest",
            "scoring",
            "--target",
            self.url,
            "--body",
            str(self.body),
            "--json",
            "--quiet",
        ]
        command += ["--seconds", str(seconds)]
        if rates:
            command += ["--rates", ",".join(str(rate) for rate in rates)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=MEASURE_SECONDS_MAX)
        if not done.stdout:
            raise RuntimeError(f"gristmill loadtest scoring: {done.stderr[-500:]}")
        found = {figure["name"]: figure["value"] for figure in json.loads(done.stdout)["figures"]}
        memory = sum(pss_mib(pid) for pid in members({self.processes.running["server"].pid}))
        return {
            "requests_per_second": found["scoring_requests_per_second"],
            "ms_p50": found["scoring_ms_p50"],
            "ms_p99": found["scoring_ms_p99"],
            "resident_mib": memory,
        }


def probability(answer: Any) -> float:
    """The probability of a late flight in an answer of any of them."""
    if "outputs" in answer:
        # Of MLServer a pair; ours names the outputs.
        output = next((one for one in answer["outputs"] if "prob" in one["name"]), answer["outputs"][0])
        return float(output["data"][-1])
    if isinstance(answer, list):
        return float(answer[0])
    values = answer["predictions"][0]
    return float(values[-1] if isinstance(values, list) else values)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    run(ScoringSystem)
