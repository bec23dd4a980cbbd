"""The same requests to MLflow's own scoring server and to ours: status, error code, shape of the answer, and predictions.

What differs on purpose stands in `KNOWN` with the reason.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import mlflow
import pandas as pd
import requests
from mlflow.models import infer_signature
from mlflow.types.schema import ColSpec, DataType, Schema

ours = "http://" + sys.argv[1]


class Sum(mlflow.pyfunc.PythonModel):
    """What the example server's model does."""

    def predict(self, context, model_input, params=None):
        sums = model_input["x"] + model_input["y"]
        return pd.DataFrame({"prediction": sums, "size": ["large" if s > 10 else "small" for s in sums]})


CASES = {
    "split": {"dataframe_split": {"columns": ["x", "y"], "data": [[1.5, 2], [20, 3]]}},
    "split with an index": {"dataframe_split": {"columns": ["y", "x"], "index": [7, 8], "data": [[1.5, 2], [20, 3]]}},
    "records": {"dataframe_records": [{"x": 1.5, "y": 2}, {"y": 3, "x": 20}]},
    "records with more": {"dataframe_records": [{"x": 1.5, "y": 2, "z": "?"}]},
    "instances as records": {"instances": [{"x": 1.5, "y": 2}]},
    "instances with params": {"instances": [{"x": 1.5, "y": 2}], "params": {}},
    "inputs by column": {"inputs": {"x": [1.5, 20], "y": [2, 3]}},
    "nothing": {},
    "two forms": {"instances": [{"x": 1, "y": 2}], "inputs": {"x": [1], "y": [2]}},
    "signature_name": {"signature_name": "serving", "instances": [{"x": 1, "y": 2}]},
    "an unknown form": {"rows": [[1, 2]]},
    "a missing column": {"dataframe_records": [{"x": 1.5}]},
    "a text for a number": {"dataframe_records": [{"x": "much", "y": 2}]},
    "split without data": {"dataframe_split": {"columns": ["x", "y"]}},
    "split with ragged rows": {"dataframe_split": {"columns": ["x", "y"], "data": [[1, 2], [3]]}},
    "records that are numbers": {"dataframe_records": [1, 2]},
    "instances that are a text": {"instances": "x"},
    "an array": [1, 2],
    "a number": 3,
}
TEXTS = {
    "csv": ("text/csv", "x,y\n1.5,2\n20,3\n"),
    "csv in utf-8": ("text/csv; charset=utf-8", "y,x\n1.5,2\n"),
    "csv without a column": ("text/csv", "x\n1.5\n"),
    "csv with a text for a number": ("text/csv", "x,y\nmuch,2\n"),
    "not json": ("application/json", "{"),
    "empty": ("application/json", ""),
    "latin-1": ("application/json; charset=latin-1", "{}"),
    "another parameter": ("application/json; format=pandas-split", "{}"),
    "plain text": ("text/plain", "x,y\n1,2\n"),
}
# MLflow's status and ours, where the answers differ.
KNOWN = {
    # It has no meaning here: whoever sends it expects something that wouldn't happen.
    "signature_name": (200, 400),
    # MLflow fills up with NaN what is missing at the end of a row.
    "split with ragged rows": (200, 400),
    # INVALID_PARAMETER_VALUE there and BAD_REQUEST here: both are 400, and which one MLflow gives depends on the layer
    # that noticed.
    "a missing column": (400, 400),
    "records that are numbers": (400, 400),
    "csv without a column": (400, 400),
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def shape(answer):
    """What a client goes by."""
    content_type = answer.headers.get("content-type", "").split(";")[0]
    try:
        body = answer.json()
    except ValueError:
        return answer.status_code, content_type, None
    if answer.status_code == 200:
        return answer.status_code, content_type, body
    return answer.status_code, content_type, body.get("error_code") if isinstance(body, dict) else body


def ask(url, body, content_type):
    return requests.post(url + "/invocations", data=body, headers={"Content-Type": content_type}, timeout=30)


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "sum")
    schema = Schema([ColSpec(DataType.double, "x"), ColSpec(DataType.double, "y")])
    signature = infer_signature(pd.DataFrame({"x": [1.0], "y": [2.0]}))
    signature.inputs = schema
    mlflow.pyfunc.save_model(path, python_model=Sum(), signature=signature, pip_requirements=[])
    port = free_port()
    theirs = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PATH": os.path.dirname(sys.executable) + ":" + os.environ["PATH"]}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", path, "-p", str(port), "--env-manager", "local"]
    with open(os.path.join(folder, "log"), "w+") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    if requests.get(theirs + "/ping", timeout=5).status_code == 200:
                        break
                except requests.ConnectionError:
                    pass
                if time.monotonic() > deadline or server.poll() is not None:
                    log.seek(0)
                    sys.exit("MLflow's scoring server doesn't start:\n" + log.read())
                time.sleep(0.1)
            cases = {name: ("application/json", json.dumps(body)) for name, body in CASES.items()} | TEXTS
            failed = []
            for name, (content_type, body) in cases.items():
                expected, found = (shape(ask(url, body, content_type)) for url in (theirs, ours))
                known = KNOWN.get(name)
                if known is not None:
                    assert (expected[0], found[0]) == known, (name, expected, found)
                elif expected != found:
                    failed.append(f"{name}:\n  MLflow {expected}\n  ours   {found}")
            assert not failed, "\n".join(failed)
        finally:
            os.killpg(server.pid, 15)
            server.wait()
