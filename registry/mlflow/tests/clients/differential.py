"""The same requests to MLflow's own server and to ours: status, error code, and what the answers hold.

Answers are compared as they are but for times, messages, and ids, which stand for what they were made for. A line of
`REQUESTS` may give its answer's id a name; `$name` is that id in later lines. Known differences stand in `DIFFERENT`,
with the reason.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import requests

ours = "http://" + sys.argv[1]

A = "/api/2.0/mlflow-artifacts/artifacts"
LONG = "k" * 251
RUN_TAGS = [{"key": "x", "value": "y"}, {"key": "mlflow.note.content", "value": "n"}]
BIG = [{"key": f"p{n}", "value": "1"} for n in range(101)]
GET, POST, PATCH, PUT, DELETE = "GET", "POST", "PATCH", "PUT", "DELETE"


class Raw:
    """A body as it is, with its content type."""

    def __init__(self, data, content_type="application/json"):
        self.data, self.content_type = data, content_type


REQUESTS = [
    # Registered models.
    (POST, "registered-models/create", {"name": "a"}),
    (POST, "registered-models/create", {"name": "a"}),
    (POST, "registered-models/create", {"name": "b", "description": "d", "tags": [{"key": "k", "value": "v"}]}),
    (POST, "registered-models/create", {"name": "tagged", "tags": [{"key": "k"}]}),
    (POST, "registered-models/create", {"name": "ünï cöde.1"}),
    (POST, "registered-models/create", {"name": 5}),
    (POST, "registered-models/create", {}),
    (POST, "registered-models/create", {"name": ""}),
    (POST, "registered-models/create", {"name": "  "}),
    (POST, "registered-models/create", {"name": None}),
    (POST, "registered-models/create", {"name": "x/y"}),
    (POST, "registered-models/create", {"name": "x:y"}),
    (POST, "registered-models/create", {"name": ".."}),
    (POST, "registered-models/create", {"name": "t", "tags": "no"}),
    (POST, "registered-models/create", {"name": "t", "tags": [{"key": 1}]}),
    (POST, "registered-models/create", {"name": "t", "tags": [{"key": LONG, "value": "v"}]}),
    (POST, "registered-models/create", {"name": "t", "tags": [{"key": "k*", "value": "v"}]}),
    (POST, "registered-models/create", {"name": "t", "tags": [{"key": "k", "value": "v" * 100_001}]}),
    (POST, "registered-models/create", {"name": "t", "description": 3}),
    (POST, "registered-models/create", Raw("{bad")),
    (POST, "registered-models/create", Raw('{"name": "q"}', "text/plain")),
    (POST, "registered-models/create", Raw('{"name": "q"}', None)),
    (POST, "registered-models/create", Raw(b'"{\\"name\\": \\"twice encoded\\"}"')),
    (POST, "registered-models/create", Raw('{"name": "q2", "unknown": {"a": 1}}', "application/json; charset=utf-8")),
    (GET, "registered-models/get", {"name": "a"}),
    (GET, "registered-models/get", {"name": "none"}),
    (GET, "registered-models/get", {"name": "x/y"}),
    (GET, "registered-models/get", {}),
    (GET, "registered-models/search", {}),
    (GET, "registered-models/search", {"filter": "name LIKE 'a%'"}),
    (GET, "registered-models/search", {"filter": "name ILIKE 'A%'"}),
    (GET, "registered-models/search", {"filter": "name = 'none'"}),
    (GET, "registered-models/search", {"filter": "name IN ('a', 'b')"}),
    (GET, "registered-models/search", {"filter": "tags.k = 'v'"}),
    (GET, "registered-models/search", {"filter": "tags.k != 'v' and name != 'q'"}),
    (GET, "registered-models/search", {"filter": "tags.`mlflow.prompt.is_prompt` != 'true'"}),
    (GET, "registered-models/search", {"filter": "tags.`mlflow.prompt.is_prompt` = 'true'"}),
    (GET, "registered-models/search", {"max_results": "0"}),
    (GET, "registered-models/search", {"max_results": "-1"}),
    (GET, "registered-models/search", {"max_results": "1001"}),
    (GET, "registered-models/search", {"max_results": "x"}),
    (GET, "registered-models/search", {"max_results": "2"}),
    (GET, "registered-models/search", {"max_results": "2", "page_token": "eyJvZmZzZXQiOiAyfQ=="}),
    (GET, "registered-models/search", {"page_token": "xx"}),
    (GET, "registered-models/search", {"page_token": "!!!"}),
    (GET, "registered-models/search", {"page_token": "e30="}),
    (GET, "registered-models/search", {"filter": "bad"}),
    (GET, "registered-models/search", {"filter": "name = a"}),
    (GET, "registered-models/search", {"filter": "name = 'a' OR name = 'b'"}),
    (GET, "registered-models/search", {"filter": "version = '1'"}),
    (GET, "registered-models/search", {"filter": "name > 'a'"}),
    (GET, "registered-models/search", {"filter": "name IN ()"}),
    (GET, "registered-models/search", {"order_by": "name DESC"}),
    (GET, "registered-models/search", {"order_by": ["timestamp ASC", "name DESC"]}),
    (GET, "registered-models/search", {"order_by": "foo"}),
    (GET, "registered-models/search", {"order_by": "name up"}),
    (PATCH, "registered-models/update", {"name": "a", "description": "new"}),
    (PATCH, "registered-models/update", {"name": "none", "description": "new"}),
    (POST, "registered-models/set-tag", {"name": "a", "key": "t", "value": "u"}),
    (POST, "registered-models/set-tag", {"name": "a", "key": "t2"}),
    (POST, "registered-models/set-tag", {"name": "a", "value": "u"}),
    (POST, "registered-models/set-tag", {"name": "a", "key": "../t", "value": "u"}),
    (POST, "registered-models/set-tag", {"name": "none", "key": "t", "value": "u"}),
    (DELETE, "registered-models/delete-tag", {"name": "a", "key": "t2"}),
    (DELETE, "registered-models/delete-tag", {"name": "a", "key": "never"}),
    # Versions.
    (POST, "model-versions/create", {"name": "a", "source": "s3://b/c"}),
    (
        POST,
        "model-versions/create",
        {
            "name": "a",
            "source": "s3://b/d",
            "run_id": "abc",
            "run_link": "http://x",
            "description": "dd",
            "tags": [{"key": "k", "value": "v"}],
        },
    ),
    (POST, "model-versions/create", {"name": "none", "source": "s3://b/c"}),
    (POST, "model-versions/create", {"name": "a"}),
    (POST, "model-versions/create", {"name": "a", "source": 5}),
    (POST, "model-versions/create", {"name": "a", "source": "/etc/passwd"}),
    (POST, "model-versions/create", {"name": "a", "source": "file:///etc/passwd"}),
    (POST, "model-versions/create", {"name": "a", "source": "s3://a/../b"}),
    (POST, "model-versions/create", {"name": "a", "source": "s3://a/%2e%2e/b"}),
    (POST, "model-versions/create", {"name": "a", "source": "mlflow-artifacts:/0/1/artifacts/m"}),
    (POST, "model-versions/create", {"name": "a", "source": "mlflow-artifacts:/0/1/artifacts/m", "run_id": "1"}),
    (POST, "model-versions/create", {"name": "a", "source": "runs:/abc/m"}),
    (POST, "model-versions/create", {"name": "a", "source": "models:/m-nope"}),
    (POST, "model-versions/create", {"name": "a", "source": "models:/a/9"}),
    (POST, "model-versions/create", {"name": "a", "source": "models:/a/2"}),
    (POST, "model-versions/create", {"name": "a", "source": "models:/a/2", "run_id": "other"}),
    (POST, "model-versions/create", {"name": "a", "source": "s3://b/c", "tags": [{"key": LONG, "value": "v"}]}),
    (GET, "model-versions/get", {"name": "a", "version": "1"}),
    (GET, "model-versions/get", {"name": "a", "version": "77"}),
    (GET, "model-versions/get", {"name": "a", "version": "x"}),
    (GET, "model-versions/get", {"name": "none", "version": "1"}),
    (GET, "model-versions/get", {"name": "a"}),
    (PATCH, "model-versions/update", {"name": "a", "version": "1", "description": "new"}),
    (PATCH, "model-versions/update", {"name": "a", "version": 1, "description": "new"}),
    (PATCH, "model-versions/update", {"name": "a", "version": "9", "description": "new"}),
    (POST, "model-versions/set-tag", {"name": "a", "version": "1", "key": "k", "value": "v"}),
    (POST, "model-versions/set-tag", {"name": "a", "version": "9", "key": "k", "value": "v"}),
    (POST, "model-versions/set-tag", {"name": "a", "version": "1", "key": LONG, "value": "v"}),
    (POST, "model-versions/set-tag", {"name": "a", "version": "1", "value": "v"}),
    (DELETE, "model-versions/delete-tag", {"name": "a", "version": "1", "key": "never"}),
    (GET, "model-versions/get-download-uri", {"name": "a", "version": "1"}),
    (GET, "model-versions/get-download-uri", {"name": "a", "version": "9"}),
    (GET, "model-versions/get-download-uri", {"name": "a"}),
    (GET, "model-versions/search", {"filter": "name = 'a'", "order_by": "version_number ASC"}),
    (GET, "model-versions/search", {"filter": "name = 'a'", "order_by": "version_number DESC", "max_results": 1}),
    (GET, "model-versions/search", {"filter": "run_id = 'abc'", "order_by": "version_number DESC"}),
    (GET, "model-versions/search", {"filter": "run_id IN ('abc')", "order_by": ["name", "version_number DESC"]}),
    (GET, "model-versions/search", {"filter": "source_path LIKE 's3://%' and version_number >= 2"}),
    (GET, "model-versions/search", {"filter": "version_number < '2'"}),
    (GET, "model-versions/search", {"filter": "tags.k = 'v'", "order_by": "version_number ASC"}),
    (GET, "model-versions/search", {"filter": "version_number = 'x'"}),
    (GET, "model-versions/search", {"filter": "version_number LIKE '1'"}),
    (GET, "model-versions/search", {"filter": "source_path IN ('a')"}),
    (GET, "model-versions/search", {"filter": "foo = 'a'"}),
    (GET, "model-versions/search", {"max_results": 0}),
    (GET, "model-versions/search", {"max_results": 200001}),
    (GET, "model-versions/search", {"order_by": "foo"}),
    (GET, "model-versions/search", {"page_token": "?"}),
    # Aliases.
    (POST, "registered-models/alias", {"name": "a", "alias": "champ", "version": "1"}),
    (POST, "registered-models/alias", {"name": "a", "alias": "v1", "version": "1"}),
    (POST, "registered-models/alias", {"name": "a", "alias": "latest", "version": "1"}),
    (POST, "model-versions/create", {"name": "q2", "source": "s3://b/c"}),
    (POST, "registered-models/alias", {"name": "q2", "alias": "7", "version": "1"}),
    (POST, "registered-models/alias", {"name": "a", "alias": "a b", "version": "1"}),
    (POST, "registered-models/alias", {"name": "a", "alias": "x" * 256, "version": "1"}),
    (POST, "registered-models/alias", {"name": "a", "alias": "champ", "version": "99"}),
    (POST, "registered-models/alias", {"name": "a", "alias": "champ", "version": "x"}),
    (POST, "registered-models/alias", {"name": "a", "alias": "champ", "version": 1}),
    (POST, "registered-models/alias", {"name": "none", "alias": "champ", "version": "1"}),
    (POST, "registered-models/alias", {"name": "a", "alias": "champ"}),
    (GET, "registered-models/alias", {"name": "a", "alias": "champ"}),
    (GET, "registered-models/alias", {"name": "a", "alias": "never"}),
    (GET, "registered-models/alias", {"name": "a", "alias": "latest"}),
    (GET, "registered-models/alias", {"name": "none", "alias": "champ"}),
    (GET, "registered-models/alias", {"name": "a"}),
    (DELETE, "registered-models/alias", {"name": "a", "alias": "never"}),
    (GET, "registered-models/get", {"name": "a"}),
    # Stages.
    (POST, "model-versions/transition-stage", {"name": "a", "version": "1", "stage": "Production"}),
    (
        POST,
        "model-versions/transition-stage",
        {"name": "a", "version": "2", "stage": "production", "archive_existing_versions": True},
    ),
    (POST, "model-versions/transition-stage", {"name": "a", "version": "2", "stage": "xxx"}),
    (POST, "model-versions/transition-stage", {"name": "a", "version": "9", "stage": "Staging"}),
    (
        POST,
        "model-versions/transition-stage",
        {"name": "a", "version": "2", "stage": "Archived", "archive_existing_versions": True},
    ),
    (
        POST,
        "model-versions/transition-stage",
        {"name": "a", "version": "2", "stage": "Staging", "archive_existing_versions": "yes"},
    ),
    (POST, "registered-models/get-latest-versions", {"name": "a"}),
    (POST, "registered-models/get-latest-versions", {"name": "a", "stages": ["Production", "archived"]}),
    (GET, "registered-models/get-latest-versions", {"name": "a", "stages": "Production"}),
    (POST, "registered-models/get-latest-versions", {"name": "a", "stages": ["foo"]}),
    (POST, "registered-models/get-latest-versions", {"name": "none"}),
    # The end of models and versions.
    (DELETE, "model-versions/delete", {"name": "a", "version": "1"}),
    (DELETE, "model-versions/delete", {"name": "a", "version": "1"}),
    (GET, "registered-models/get", {"name": "a"}),
    (POST, "registered-models/rename", {"name": "a", "new_name": "b"}),
    (POST, "registered-models/rename", {"name": "a", "new_name": "x/y"}),
    (POST, "registered-models/rename", {"name": "a", "new_name": "c"}),
    (POST, "registered-models/rename", {"name": "a", "new_name": "c"}),
    (POST, "registered-models/rename", {"name": "c"}),
    (DELETE, "registered-models/delete", {"name": "c"}),
    (DELETE, "registered-models/delete", {"name": "c"}),
    # Experiments.
    (POST, "experiments/create", {"name": "e"}, "experiment_id"),
    (POST, "experiments/create", {"name": "e"}),
    (POST, "experiments/create", {"name": ""}),
    (POST, "experiments/create", {"name": 5}),
    (POST, "experiments/create", {"name": "x" * 501}),
    (POST, "experiments/create", {"name": "t", "tags": [{"key": "k*", "value": "v"}]}),
    (POST, "experiments/create", {"name": "e2", "artifact_location": "s3://x/y", "tags": [{"key": "a", "value": "b"}]}),
    (GET, "experiments/get", {"experiment_id": "$experiment_id"}),
    (GET, "experiments/get", {"experiment_id": "0"}),
    (GET, "experiments/get", {"experiment_id": "999"}),
    (GET, "experiments/get", {"experiment_id": "abc"}),
    (GET, "experiments/get", {}),
    (GET, "experiments/get-by-name", {"experiment_name": "Default"}),
    (GET, "experiments/get-by-name", {"experiment_name": "never"}),
    (POST, "experiments/search", {"max_results": 10, "filter": "name LIKE 'e%'"}),
    (POST, "experiments/search", {"max_results": 1, "filter": "name LIKE 'e%'"}),
    (GET, "experiments/search", {"max_results": 10, "filter": "tags.a = 'b'", "order_by": "name DESC"}),
    (POST, "experiments/search", {"max_results": 10, "filter": "experiment_id = '0'"}),
    (POST, "experiments/search", {"max_results": 10, "filter": "name LIKE 'e%'", "order_by": ["name ASC"]}),
    (POST, "experiments/search", {"max_results": 10, "filter": "foo = 'b'"}),
    (POST, "experiments/search", {"max_results": 10, "order_by": ["foo"]}),
    (POST, "experiments/search", {}),
    (POST, "experiments/search", {"max_results": "x"}),
    (POST, "experiments/update", {"experiment_id": "$experiment_id", "new_name": "e1"}),
    (POST, "experiments/update", {"experiment_id": "$experiment_id"}),
    (POST, "experiments/update", {"experiment_id": "$experiment_id", "new_name": "e2"}),
    (POST, "experiments/update", {"experiment_id": "999", "new_name": "e3"}),
    (POST, "experiments/set-experiment-tag", {"experiment_id": "$experiment_id", "key": "t", "value": "u"}),
    (POST, "experiments/set-experiment-tag", {"experiment_id": "$experiment_id", "key": LONG, "value": "u"}),
    (POST, "experiments/set-experiment-tag", {"experiment_id": "999", "key": "t", "value": "u"}),
    (POST, "experiments/delete-experiment-tag", {"experiment_id": "$experiment_id", "key": "never"}),
    (POST, "experiments/delete-experiment-tag", {"experiment_id": "$experiment_id", "key": "t"}),
    # Runs.
    (
        POST,
        "runs/create",
        {"experiment_id": "$experiment_id", "start_time": 123, "user_id": "me", "run_name": "rn", "tags": RUN_TAGS},
        "run",
    ),
    (POST, "runs/create", {"experiment_id": "999"}),
    (POST, "runs/create", {"experiment_id": "$experiment_id", "start_time": "x"}),
    (POST, "runs/create", {"experiment_id": 5}),
    (
        POST,
        "runs/create",
        {"experiment_id": "0", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]},
    ),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": 1.5, "timestamp": 5, "step": 1}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": 1.5, "timestamp": 5, "step": 1}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": "NaN", "timestamp": 6, "step": 2}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "inf", "value": "Infinity", "timestamp": 6, "step": 2}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": 0, "timestamp": "6"}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": "zz", "timestamp": 6}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "../m", "value": 1, "timestamp": 6}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m*", "value": 1, "timestamp": 6}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": LONG, "value": 1, "timestamp": 6}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": 1, "timestamp": -6}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": 1, "timestamp": 6, "step": "x"}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": 1}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m"}),
    (POST, "runs/log-metric", {"run_id": "never", "key": "m", "value": 1, "timestamp": 1}),
    (POST, "runs/log-metric", {"run_uuid": "$run", "key": "old", "value": 1, "timestamp": 1}),
    (GET, "metrics/get-history", {"run_id": "$run", "metric_key": "m"}),
    (GET, "metrics/get-history", {"run_id": "$run", "metric_key": "m", "max_results": 1}),
    (GET, "metrics/get-history", {"run_id": "$run", "metric_key": "m", "max_results": 0}),
    (GET, "metrics/get-history", {"run_id": "$run", "metric_key": "m", "max_results": 2, "page_token": "eyJvZmZzZXQiOiAxfQ=="}),
    (GET, "metrics/get-history", {"run_id": "$run", "metric_key": "never"}),
    (GET, "metrics/get-history", {"run_id": "never", "metric_key": "m"}),
    (GET, "metrics/get-history", {"run_id": "$run"}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": "p", "value": "1"}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": "p", "value": "1"}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": "p", "value": "2"}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": "long", "value": "x" * 6001}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": "empty"}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": "a b:/c*", "value": "1"}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": LONG, "value": "1"}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": 1, "value": "1"}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": "p9", "value": 1}),
    (POST, "runs/log-parameter", {"run_id": "never", "key": "p", "value": "1"}),
    (POST, "runs/set-tag", {"run_id": "$run", "key": "t", "value": "v"}),
    (POST, "runs/set-tag", {"run_id": "$run", "key": "t", "value": "w"}),
    (POST, "runs/set-tag", {"run_id": "$run", "key": "long", "value": "v" * 8001}),
    (POST, "runs/set-tag", {"run_id": "$run", "key": "mlflow.runName", "value": "renamed"}),
    (POST, "runs/set-tag", {"run_id": "$run"}),
    (POST, "runs/delete-tag", {"run_id": "$run", "key": "never"}),
    (POST, "runs/delete-tag", {"run_id": "$run", "key": "long"}),
    (
        POST,
        "runs/log-batch",
        {
            "run_id": "$run",
            "metrics": [{"key": "b", "value": 2, "timestamp": 1}, {"key": "b", "value": 3, "timestamp": 1, "step": 4}],
            "params": [{"key": "q", "value": "1"}],
            "tags": [{"key": "tt", "value": "1"}],
        },
    ),
    (POST, "runs/log-batch", {"run_id": "$run", "params": [{"key": "d", "value": "1"}, {"key": "d", "value": "2"}]}),
    (POST, "runs/log-batch", {"run_id": "$run", "metrics": [{"key": "b"}]}),
    (POST, "runs/log-batch", {"run_id": "$run", "metrics": [{"value": 1, "timestamp": 1}]}),
    (POST, "runs/log-batch", {"run_id": "$run", "metrics": "x"}),
    (POST, "runs/log-batch", {"run_id": "$run", "params": BIG}),
    (POST, "runs/log-batch", {"run_id": "$run", "params": [{"key": "p", "value": "zzz"}]}),
    (POST, "runs/log-batch", {"run_id": "$run", "tags": [{"value": "zzz"}]}),
    (POST, "runs/log-batch", {"run_id": "$run"}),
    (POST, "runs/log-batch", {"run_id": "never"}),
    (POST, "runs/log-batch", {}),
    (
        POST,
        "runs/log-inputs",
        {
            "run_id": "$run",
            "datasets": [
                {
                    "tags": [{"key": "mlflow.data.context", "value": "train"}],
                    "dataset": {
                        "name": "ds",
                        "digest": "dd",
                        "source_type": "local",
                        "source": "{}",
                        "schema": "{}",
                        "profile": "{}",
                    },
                }
            ],
        },
    ),
    (POST, "runs/log-inputs", {"run_id": "$run"}),
    (POST, "runs/log-inputs", {"run_id": "never"}),
    (POST, "runs/log-inputs", {"run_id": "$run", "datasets": "x"}),
    (POST, "runs/outputs", {"run_id": "$run", "models": [{"model_id": "m-1", "step": 3}]}),
    (POST, "runs/outputs", {"run_id": "$run"}),
    (POST, "runs/log-model", {"run_id": "$run", "model_json": "{}"}),
    (POST, "runs/log-model", {"run_id": "$run", "model_json": "{"}),
    (GET, "runs/get", {"run_id": "$run"}),
    (GET, "runs/get", {"run_uuid": "$run"}),
    (GET, "runs/get", {"run_id": "never"}),
    (GET, "runs/get", {}),
    (POST, "runs/update", {"run_id": "$run", "status": "FINISHED", "end_time": 99}),
    (POST, "runs/update", {"run_id": "$run", "status": 4}),
    (POST, "runs/update", {"run_id": "$run", "run_name": "nn"}),
    (POST, "runs/update", {"run_id": "never", "status": "FINISHED"}),
    (POST, "runs/update", {"run_id": "$run", "end_time": "x"}),
    # Searches of runs.
    (POST, "runs/create", {"experiment_id": "$experiment_id", "start_time": 200, "run_name": "r2", "user_id": "u"}, "run2"),
    (POST, "runs/create", {"experiment_id": "$experiment_id", "start_time": 300, "run_name": "r3", "user_id": "u"}, "run3"),
    (POST, "runs/log-batch", {"run_id": "$run2", "metrics": [{"key": "b", "value": 1, "timestamp": 1}]}),
    (POST, "runs/log-batch", {"run_id": "$run3", "metrics": [{"key": "b", "value": "NaN", "timestamp": 1}]}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"]}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "order_by": ["metrics.b DESC"]}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "order_by": ["metrics.b"], "max_results": 2}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "order_by": ["params.`p`", "start_time ASC"]}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "metrics.b > 1 and params.p = '1'"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "metrics.b != 1"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "params.p IS NULL"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "tags.\"tt\" IS NOT NULL"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "attributes.run_name ILIKE 'R%'"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "attributes.`Run name` = 'r2'"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "run_id NOT IN ('$run')"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "dataset.name = 'ds'"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "metrics.b > '1'"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "params.p = 1"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "params.p LIKE 1"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "foo.p = 1"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "attributes.foo = '1'"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "start_time = 'x'"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "params.p = 'x"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": "status IN ('FINISHED')"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "max_results": 50001}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "max_results": 0}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "max_results": -1}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "page_token": "x"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "order_by": ["foo"]}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "order_by": ["metrics.b", "metrics.b DESC"]}),
    (POST, "runs/search", {"experiment_ids": ["zz"]}),
    (POST, "runs/search", {"experiment_ids": ["999"]}),
    (POST, "runs/search", {"experiment_ids": "1"}),
    (POST, "runs/search", {}),
    (POST, "runs/delete", {"run_id": "$run2"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "run_view_type": "DELETED_ONLY"}),
    (POST, "runs/log-parameter", {"run_id": "$run2", "key": "p9", "value": "1"}),
    (POST, "runs/set-tag", {"run_id": "$run2", "key": "p9", "value": "1"}),
    (POST, "runs/update", {"run_id": "$run2", "status": "FINISHED"}),
    (GET, "runs/get", {"run_id": "$run2"}),
    (POST, "runs/restore", {"run_id": "$run2"}),
    (POST, "runs/delete", {"run_id": "never"}),
    # Files.
    (PUT, A + "/$experiment_id/$run/artifacts/d/x.txt", Raw(b"hello", None)),
    (PUT, A + "/$experiment_id/$run/artifacts/top.bin", Raw(b"\x00\x01", "application/octet-stream")),
    (PUT, A + "/$experiment_id/$run/artifacts/d/%2e%2e/%2e%2e/x.txt", Raw(b"hello", None)),
    (GET, A + "/$experiment_id/$run/artifacts/d/x.txt", {}),
    (GET, A + "/$experiment_id/$run/artifacts/d/never.txt", {}),
    (GET, A, {"path": "$experiment_id/$run/artifacts"}),
    (GET, A, {"path": "$experiment_id/$run/artifacts/d"}),
    (GET, A, {"path": "$experiment_id/$run/artifacts/never"}),
    (GET, A, {"path": "../x"}),
    (GET, "artifacts/list", {"run_id": "$run"}),
    (GET, "artifacts/list", {"run_id": "$run", "path": "d"}),
    (GET, "artifacts/list", {"run_id": "$run", "path": "../d"}),
    (GET, "artifacts/list", {"run_id": "never"}),
    (DELETE, A + "/$experiment_id/$run/artifacts/top.bin", {}),
    (DELETE, A + "/$experiment_id/$run/artifacts/top.bin", {}),
    (POST, "model-versions/create", {"name": "b", "source": "mlflow-artifacts:/$experiment_id/$run/artifacts/d", "run_id": "$run"}),
    (POST, "model-versions/create", {"name": "b", "source": "mlflow-artifacts:/$experiment_id/$run/artifacts/d", "run_id": "$run2"}),
    (POST, "model-versions/create", {"name": "b", "source": "runs:/$run/d", "run_id": "$run"}),
    (POST, "model-versions/create", {"name": "b", "source": "runs:/$run/never", "run_id": "$run"}),
    (GET, "model-versions/get-download-uri", {"name": "b", "version": "1"}),
    # Logged models.
    (
        POST,
        "logged-models",
        {
            "experiment_id": "$experiment_id",
            "name": "mm",
            "source_run_id": "$run",
            "model_type": "x",
            "params": [{"key": "a", "value": "b"}],
            "tags": [{"key": "c", "value": "d"}],
        },
        "model",
    ),
    (POST, "logged-models", {"name": "mm"}),
    (POST, "logged-models", {"experiment_id": "999", "name": "mm"}),
    (POST, "logged-models", {"experiment_id": "$experiment_id", "name": "a/b"}),
    (GET, "logged-models/$model", {}),
    (GET, "logged-models/m-never", {}),
    (PATCH, "logged-models/$model", {"model_id": "$model", "status": "LOGGED_MODEL_READY"}),
    (PATCH, "logged-models/$model", {"model_id": "$model", "status": 2}),
    (PATCH, "logged-models/$model", {"status": "LOGGED_MODEL_READY"}),
    (PATCH, "logged-models/$model/tags", {"tags": [{"key": "k", "value": "v"}]}),
    (PATCH, "logged-models/$model/tags", {"tags": "x"}),
    (DELETE, "logged-models/$model/tags/k", {}),
    (DELETE, "logged-models/$model/tags/k", {}),
    (POST, "logged-models/$model/params", {"model_id": "$model", "params": [{"key": "k", "value": "v"}]}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "lm", "value": 1, "timestamp": 5, "model_id": "$model"}),
    (POST, "logged-models/search", {"experiment_ids": ["$experiment_id"]}),
    (POST, "logged-models/search", {"experiment_ids": ["$experiment_id"], "filter": "name = 'mm' and params.a = 'b'"}),
    (POST, "logged-models/search", {"experiment_ids": ["$experiment_id"], "filter": "metrics.lm > 1"}),
    (POST, "logged-models/search", {"experiment_ids": ["$experiment_id"], "order_by": [{"field_name": "creation_time"}]}),
    (POST, "logged-models/search", {"experiment_ids": ["$experiment_id"], "order_by": [{"field_name": "foo"}]}),
    (POST, "logged-models/search", {"experiment_ids": ["$experiment_id"], "filter": "foo = 'x'"}),
    (POST, "logged-models/search", {}),
    (GET, "logged-models/$model/artifacts/directories", {}),
    (DELETE, "logged-models/$model", {}),
    (GET, "logged-models/$model", {}),
    (GET, "logged-models/$model", {"allow_deleted": "true"}),
    # The end of an experiment.
    (POST, "experiments/delete", {"experiment_id": "$experiment_id"}),
    (POST, "experiments/delete", {"experiment_id": "$experiment_id"}),
    (GET, "experiments/get", {"experiment_id": "$experiment_id"}),
    (POST, "experiments/create", {"name": "e1"}),
    (POST, "experiments/update", {"experiment_id": "$experiment_id", "new_name": "e5"}),
    (POST, "runs/create", {"experiment_id": "$experiment_id"}),
    (POST, "runs/log-parameter", {"run_id": "$run", "key": "after", "value": "1"}),
    (POST, "experiments/restore", {"experiment_id": "$experiment_id"}),
    (POST, "experiments/restore", {"experiment_id": "$experiment_id"}),
    # The rest.
    (POST, "registered-models/create", Raw("[1]")),
    (POST, "registered-models/create", Raw('"text"')),
    (POST, "registered-models/create", Raw("null")),
    (POST, "registered-models/create", Raw("")),
    (POST, "registered-models/create", {"name": {"a": 1}}),
    (POST, "registered-models/create", {"name": ["a"]}),
    (POST, "registered-models/create", {"name": True}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": True, "timestamp": 1}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": None, "timestamp": 1}),
    (POST, "runs/log-metric", {"run_id": "$run", "key": "m", "value": 1, "timestamp": 1.5}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "filter": 5}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "order_by": "metrics.b"}),
    (POST, "runs/search", {"experiment_ids": ["$experiment_id"], "order_by": [5]}),
    (GET, "registered-models/alias", {"name": "b", "alias": "a b"}),
    (DELETE, "registered-models/alias", {"name": "none", "alias": "x"}),
    (DELETE, "registered-models/delete", {}),
    (DELETE, "model-versions/delete", {"name": "b"}),
    (PATCH, "registered-models/update", {}),
    (GET, "/health", {}),
    (GET, "/version", {}),
    (GET, "never/never", {}),
    (GET, "/ajax-api/2.0/mlflow/registered-models/get", {"name": "b"}),
]

# What differs on purpose: the place of the request among all of its method and path, from 0, and why.
CRASH = "MLflow's server fails with 500 on what is the caller's mistake"
NO_FILES = "a version is registered once its files are there"
DIFFERENT = {
    ("GET registered-models/search", 10): "a page of fewer than no rows can't be asked for",
    ("POST registered-models/create", 24): CRASH,
    ("POST registered-models/create", 25): CRASH,
    ("POST runs/log-metric", 16): "MLflow's server logs 0 for what it can't read; a metric is a number",
    ("POST runs/log-metric", 18): "MLflow's server logs the time 0 for what it can't read",
    ("POST registered-models/alias", 3): "in Gristmill `model@7` is the version 7, so no alias is a number",
    ("POST model-versions/transition-stage", 4): CRASH,
    ("POST runs/search", 25): CRASH,
    ("POST model-versions/create", 21): NO_FILES,
    ("GET model-versions/get-download-uri", 3): "a version has files of its own, which stay when the run's change",
    ("POST logged-models/search", 5): CRASH,
    ("GET /ajax-api/2.0/mlflow/registered-models/get", 0): NO_FILES,
}

# What our answers have beyond MLflow's, anywhere, and what they lack.
MORE = {}
OF_VERSIONS = {"model_id": "MLflow's answer forgets the logged model that a version was made from"}
LESS = {
    "workspace": "there are no workspaces",
    "sqlstate": "no client looks at it",
    "error_class": "no client looks at it",
}
TIMES = {
    "creation_timestamp",
    "last_updated_timestamp",
    "creation_time",
    "last_update_time",
    "creation_timestamp_ms",
    "last_updated_timestamp_ms",
}


def put_in(value, names):
    text = json.dumps(value)
    for name, found in sorted(names.items(), key=lambda pair: -len(pair[0])):
        text = text.replace("$" + name, found)
    return json.loads(text)


def ask(base, request, names):
    method, path, body = request[:3]
    path = put_in(path, names)
    url = base + (path if path.startswith("/") else "/api/2.0/mlflow/" + path)
    if isinstance(body, Raw):
        headers = {"Content-Type": body.content_type} if body.content_type else {}
        # Prepared by hand, so that the library neither adds a content type nor tidies the path.
        prepared = requests.Request(method, url, data=body.data, headers=headers).prepare()
        prepared.url = url
        answer = session.send(prepared)
    elif method == GET:
        answer = session.get(url, params=put_in(body, names))
    else:
        answer = session.request(method, url, json=put_in(body, names) if body != {} or method != DELETE else None)
    try:
        value = answer.json()
    except ValueError:
        value = answer.text
    if len(request) > 3 and answer.status_code == 200:
        name = request[3]
        names[name] = {
            "experiment_id": lambda: value["experiment_id"],
            "model": lambda: value["model"]["info"]["model_id"],
        }.get(name, lambda: value["run"]["info"]["run_id"])()
    return answer.status_code, value


def plain(value, names, ours, key=None):
    if isinstance(value, dict):
        skipped = MORE if ours else LESS
        return {
            name: plain(one, names, ours, name)
            for name, one in value.items()
            if name not in skipped and not (ours and name in OF_VERSIONS and "current_stage" in value)
        }
    if isinstance(value, list):
        rows = [plain(one, names, ours, key) for one in value]
        # Of pairs and metrics the order isn't told; of what was searched it is.
        return sorted(rows, key=json.dumps) if key in ("tags", "params", "metrics", "files") else rows
    if key in TIMES or key == "message":
        return type(value).__name__
    if isinstance(value, str):
        for name, found in names.items():
            if name != "experiment_id":
                value = value.replace(found, "$" + name)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def mlflow_server(folder):
    """MLflow's own server, ready."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = open(f"{folder}/log", "w")
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    base = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 240
    while True:
        try:
            if session.get(base + "/health", timeout=2).status_code == 200:
                return server, base
        except requests.RequestException:
            pass
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"MLflow's server didn't start:\n{open(f'{folder}/log').read()}")
        # The server is another's program: there is nothing to wait for but its answer.
        time.sleep(0.1)


def compare(theirs):
    counts, complaints = {}, []
    their_names, our_names = {}, {}
    for request in REQUESTS:
        where = f"{request[0]} {request[1]}"
        place = counts[where] = counts.get(where, -1) + 1
        expected_status, expected = ask(theirs, request, their_names)
        status, answer = ask(ours, request, our_names)
        same = status == expected_status
        if isinstance(expected, dict) and isinstance(answer, dict):
            same &= plain(expected, their_names, False) == plain(answer, our_names, True)
        elif status < 400:
            same &= expected == answer
        reason = DIFFERENT.get((where, place))
        if same == (reason is None):
            continue
        body = request[2].data if isinstance(request[2], Raw) else json.dumps(request[2])
        complaints.append(
            f"{where} [{place}] {str(body)[:200]}\n  MLflow {expected_status} {plain(expected, their_names, False)}\n"
            f"  ours   {status} {plain(answer, our_names, True)}\n         {str(answer)[:300]}"
            + (f"\n  they are the same, but were to differ: {reason}" if reason else "")
        )
    return complaints


session = requests.Session()
folder = tempfile.mkdtemp()
server, theirs = (None, sys.argv[2]) if len(sys.argv) > 2 else mlflow_server(folder)
try:
    complaints = compare(theirs)
finally:
    if server:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
if complaints:
    raise SystemExit("\n".join(complaints) + f"\n{len(complaints)} of {len(REQUESTS)} requests differ")
print(f"{len(REQUESTS)} requests, {len(DIFFERENT)} known differences")
