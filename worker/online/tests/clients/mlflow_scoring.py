"""MLflow's scoring client against a server, and plain requests where the client has no words for it."""

import sys

import pandas as pd
import requests
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

host, port = sys.argv[1].split(":")
url = "http://" + sys.argv[1]

client = ScoringServerClient(host, int(port))
client.wait_server_ready(timeout=10)
frame = pd.DataFrame({"y": [2.0, 3.0], "x": [1.5, None], "kind": ["a", "b"]})
# The client writes a bare NaN; what becomes of it is null.
answer = client.invoke(frame).get_predictions()
assert answer["prediction"].tolist()[0] == 3.5 and answer["prediction"].isna().tolist() == [False, True], answer
frame = frame.fillna(20)
answer = client.invoke(frame).get_predictions()
assert answer["prediction"].tolist() == [3.5, 23.0], answer
assert answer["size"].tolist() == ["small", "large"], answer

expected = {"predictions": [{"prediction": 3.5, "size": "small"}, {"prediction": 23.0, "size": "large"}]}
for body in (
    {"dataframe_split": frame.to_dict(orient="split")},
    {"dataframe_records": frame.to_dict(orient="records")},
    {"instances": frame.to_dict(orient="records"), "params": {}},
    {"instances": [[1.5, 2, "a"], [20, 3, "b"]]},
    {"inputs": frame.to_dict(orient="list")},
):
    answer = requests.post(url + "/invocations", json=body)
    assert answer.status_code == 200 and answer.json() == expected, (body, answer.text)

for text in (frame.to_csv(index=False), "1.5,2,a\n20,3,b\n"):
    for content_type in ("text/csv", "text/csv; charset=utf-8"):
        answer = requests.post(url + "/invocations", data=text, headers={"Content-Type": content_type})
        assert answer.json() == expected, answer.text
answer = requests.post(url + "/invocations", data=text, headers={"Content-Type": "text/csv", "Accept": "text/csv"})
assert answer.text == "3.5,small\n23.0,large\n", answer.text

for body, text in (
    ({}, "exactly one of"),
    ({"instances": [[1, 2, "a"]], "inputs": [[1, 2, "a"]]}, "`instances` and `inputs`"),
    ({"dataframe_split": {"data": [[1, 2, "a"]], "rows": 1}}, "no `rows`"),
    ({"dataframe_records": [{"x": None, "y": 2}]}, "column `x` is null in row 0"),
    ({"signature_name": "x", "instances": [[1, 2, "a"]]}, "signature_name"),
):
    answer = requests.post(url + "/invocations", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "BAD_REQUEST" and text in answer.json()["message"], answer.text
for content_type in ("text/plain", "application/json; charset=latin-1", "application/json; format=pandas-split", None):
    headers = {"Content-Type": content_type} if content_type else {}
    answer = requests.post(url + "/invocations", data=b"{}", headers=headers)
    assert answer.status_code == 415 and answer.headers["content-type"].startswith("text/plain"), answer.text

for path in ("/ping", "/health"):
    answer = requests.get(url + path)
    assert answer.status_code == 200 and answer.text == "\n", answer.text
assert requests.get(url + "/version").text
assert requests.get(url + "/openapi.json").json()["openapi"] == "3.1.0"
metrics = requests.get(url + "/metrics").text
assert 'gristmill_inference_request_duration_seconds_count{model="sum",outcome="succeeded"}' in metrics, metrics
