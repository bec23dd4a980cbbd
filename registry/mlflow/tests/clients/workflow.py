"""An unmodified MLflow client through what people do with it: track runs, log models, register, find and download them."""

import json
import math
import os
import pathlib
import sys
import tempfile
import threading

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

uri = "http://" + sys.argv[1]
mlflow.set_tracking_uri(uri)
client = MlflowClient()
folder = pathlib.Path(tempfile.mkdtemp())
os.chdir(folder)


def refused(code, call, *arguments, **named):
    try:
        answer = call(*arguments, **named)
    except MlflowException as error:
        assert error.error_code == code, (error.error_code, str(error))
        return str(error)
    raise AssertionError(f"it answered {answer!r}")


# Runs.
experiment = mlflow.set_experiment("flights")
assert experiment.artifact_location == f"mlflow-artifacts:/{experiment.experiment_id}", experiment
with mlflow.start_run(run_name="first", tags={"team": "air"}, description="a try") as run:
    first = run.info.run_id
    mlflow.log_param("depth", 6)
    mlflow.log_params({"rate": 0.1, "kind": "gbt"})
    for step, value in enumerate([3.0, 2.0, float("nan"), 1.5]):
        mlflow.log_metric("rmse", value, step=step)
    mlflow.log_metrics({"mae": 1.25, "bias": float("inf")}, step=7)
    mlflow.set_tags({"a b": "x", "note": "ünï"})
    client.log_batch(
        first,
        metrics=[Metric("loss", 1 / (n + 1), 1_000 + n, n) for n in range(900)],
        params=[Param(f"p{n}", str(n)) for n in range(50)],
        tags=[RunTag(f"t{n}", str(n)) for n in range(50)],
    )
    mlflow.log_dict({"a": [1, 2]}, "conf/settings.json")
    mlflow.log_text("hello", "notes.txt")
    (folder / "large.bin").write_bytes(os.urandom(3_500_000))
    mlflow.log_artifact("large.bin", "data")
    with mlflow.start_run(nested=True, run_name="child") as child:
        mlflow.log_metric("rmse", 9)
    message = refused("INVALID_PARAMETER_VALUE", client.log_param, first, "depth", 7)
    assert "Changing param values is not allowed" in message, message

got = client.get_run(first)
assert got.info.status == "FINISHED" and got.info.run_name == "first" and got.info.end_time >= got.info.start_time
assert got.data.params["depth"] == "6" and got.data.params["p49"] == "49" and len(got.data.params) == 53
assert got.data.metrics["rmse"] == 1.5 and got.data.metrics["mae"] == 1.25 and got.data.metrics["bias"] > 1e308
assert got.data.tags["team"] == "air" and got.data.tags["note"] == "ünï" and got.data.tags["mlflow.note.content"] == "a try"
history = client.get_metric_history(first, "rmse")
assert [m.step for m in history] == [0, 1, 2, 3] and math.isnan(history[2].value), history
assert len(client.get_metric_history(first, "loss")) == 900
assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == first

# Files.
assert sorted(one.path for one in client.list_artifacts(first)) == ["conf", "data", "notes.txt"]
assert [(one.path, one.file_size) for one in client.list_artifacts(first, "data")] == [("data/large.bin", 3_500_000)]
assert mlflow.artifacts.load_dict(f"runs:/{first}/conf/settings.json") == {"a": [1, 2]}
there = pathlib.Path(client.download_artifacts(first, "", str(folder)))
assert (there / "data/large.bin").read_bytes() == (folder / "large.bin").read_bytes()
client_artifacts = mlflow.artifacts.list_artifacts(run_id=first)
assert len(client_artifacts) == 3

# Searches.
for n in range(5):
    with mlflow.start_run(run_name=f"sweep {n}"):
        mlflow.log_param("n", n)
        mlflow.log_param("even", n % 2 == 0)
        mlflow.log_metric("score", n / 10)
        if n == 3:
            mlflow.set_tag("best one", "yes")
ids = [experiment.experiment_id]


def names(**what):
    return [run.info.run_name for run in client.search_runs(ids, **what)]


assert names(filter_string="metrics.score >= 0.2 and params.even = 'True'", order_by=["metrics.score DESC"]) == [
    "sweep 4",
    "sweep 2",
]
assert names(filter_string="tags.`best one` = 'yes'") == ["sweep 3"]
assert names(filter_string="attributes.run_name LIKE 'sweep%' AND params.n != '0'", order_by=["params.n"]) == [
    f"sweep {n}" for n in range(1, 5)
]
assert names(filter_string=f"run_id IN ('{first}')") == ["first"]
assert names(filter_string="attributes.status = 'FAILED'") == []
assert names(filter_string="attributes.start_time > 0", max_results=3, order_by=["attributes.start_time ASC"])[0] == "first"
page = client.search_runs(ids, max_results=3)
pages = list(page)
while page.token:
    page = client.search_runs(ids, max_results=3, page_token=page.token)
    pages += page
assert len(pages) == 7 and len({run.info.run_id for run in pages}) == 7
frame = mlflow.search_runs(experiment_names=["flights"], filter_string="params.n = '1'")
assert len(frame) == 1 and frame["metrics.score"][0] == 0.1
refused("INVALID_PARAMETER_VALUE", client.search_runs, ids, "metrics.x = 'a'")
client.delete_run(child.info.run_id)
assert "child" not in names() and names(run_view_type=ViewType.DELETED_ONLY) == ["child"]
refused("INVALID_PARAMETER_VALUE", client.log_metric, child.info.run_id, "x", 1)
client.restore_run(child.info.run_id)
assert "child" in names()

# Experiments.
other = client.create_experiment("other", tags={"a": "b"})
client.set_experiment_tag(other, "c", "d")
client.rename_experiment(other, "others")
assert client.get_experiment(other).tags == {"a": "b", "c": "d"} and client.get_experiment_by_name("other") is None
found = client.search_experiments(filter_string="tags.a = 'b'", order_by=["name DESC"])
assert [one.name for one in found] == ["others"], found
refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, "flights")
client.delete_experiment(other)
assert client.get_experiment(other).lifecycle_stage == "deleted"
client.restore_experiment(other)

# A dataset, and a model as MLflow 3 logs it: any Python function, which nothing here runs.
import pandas as pd


class Double(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input * 2


frame = pd.DataFrame({"x": [1.0, 2.0]})
with mlflow.start_run(run_name="models") as run:
    maker = run.info.run_id
    mlflow.log_input(mlflow.data.from_pandas(frame, name="rows"), context="training")
    info = mlflow.pyfunc.log_model(
        name="double", python_model=Double(), input_example=frame, pip_requirements=[], registered_model_name="doubler"
    )
    mlflow.log_metric("quality", 0.75, model_id=info.model_id, dataset=mlflow.data.from_pandas(frame, name="rows"))
assert client.get_run(maker).inputs.dataset_inputs[0].dataset.name == "rows"
assert client.get_run(maker).outputs.model_outputs[0].model_id == info.model_id
assert names(filter_string="dataset.name = 'rows' and dataset.context = 'training'") == ["models"]
logged = client.get_logged_model(info.model_id)
assert logged.status == "READY" and logged.source_run_id == maker and logged.name == "double", logged
assert [metric.value for metric in logged.metrics] == [0.75]
client.set_logged_model_tags(info.model_id, {"kind": "toy"})
found = mlflow.search_logged_models(
    experiment_ids=ids, filter_string="metrics.quality > 0.5 and tags.kind = 'toy'", output_format="list"
)
assert [one.model_id for one in found] == [info.model_id]
loaded = mlflow.pyfunc.load_model("models:/doubler/1")
assert loaded.predict(frame)["x"].tolist() == [2.0, 4.0]
version = client.get_model_version("doubler", 1)
assert version.run_id == maker and version.status == "READY" and version.source == f"models:/{info.model_id}", version
assert json.loads(client.get_logged_model(info.model_id).tags["mlflow.modelVersions"])[0]["name"] == "doubler"

# Files that are registered by their run's address, and stay what they were.
with mlflow.start_run() as run:
    holder = run.info.run_id
    mlflow.log_dict({"flavors": {}}, "model/MLmodel")
    mlflow.log_text("weights", "model/weights.txt")
second = mlflow.register_model(f"runs:/{holder}/model", "doubler", tags={"from": "a run"})
assert second.version in (2, "2") and second.run_id == holder
client.log_text(holder, "changed", "model/weights.txt")
there = pathlib.Path(mlflow.artifacts.download_artifacts("models:/doubler/2"))
assert (there / "weights.txt").read_text() == "weights"
refused("INVALID_PARAMETER_VALUE", client.create_model_version, "doubler", f"runs:/{holder}/nothing", holder)
copy = client.copy_model_version("models:/doubler/2", "copied")
assert copy.source == "models:/doubler/2" and copy.run_id == holder
there = pathlib.Path(mlflow.artifacts.download_artifacts("models:/copied/1"))
assert (there / "weights.txt").read_text() == "weights"

# The registry.
client.set_registered_model_alias("doubler", "champion", "1")
client.set_registered_model_alias("doubler", "Next-2", 2)
assert client.get_model_version_by_alias("doubler", "champion").version in (1, "1")
assert mlflow.pyfunc.load_model("models:/doubler@champion").predict(frame)["x"].tolist() == [2.0, 4.0]
assert client.get_registered_model("doubler").aliases == {"champion": "1", "Next-2": "2"}
client.delete_registered_model_alias("doubler", "Next-2")
refused("INVALID_PARAMETER_VALUE", client.get_model_version_by_alias, "doubler", "Next-2")
for bad in ("v1", "latest", "a b"):
    refused("INVALID_PARAMETER_VALUE", client.set_registered_model_alias, "doubler", bad, "1")
client.set_registered_model_tag("doubler", "task", "double")
client.set_model_version_tag("doubler", "1", "checked by", "ann")
client.delete_model_version_tag("doubler", "2", "from")
client.update_registered_model("doubler", "doubles")
client.update_model_version("doubler", 1, "the first")
client.transition_model_version_stage("doubler", 1, "Production")
client.transition_model_version_stage("doubler", 2, "production", archive_existing_versions=True)
model = client.get_registered_model("doubler")
assert model.description == "doubles" and model.tags == {"task": "double"}
assert {v.current_stage: int(v.version) for v in model.latest_versions} == {"Archived": 1, "Production": 2}
assert [int(v.version) for v in client.get_latest_versions("doubler", ["Production"])] == [2]
version = client.get_model_version("doubler", 1)
assert version.description == "the first" and version.tags == {"checked by": "ann"} and version.aliases == ["champion"]


def versions(text, **what):
    return [(one.name, int(one.version)) for one in client.search_model_versions(text, **what)]


assert versions("name = 'doubler'", order_by=["version_number ASC"]) == [("doubler", 1), ("doubler", 2)]
assert versions("tags.`checked by` = 'ann'") == [("doubler", 1)]
assert versions(f"run_id = '{holder}'", order_by=["name"]) == [("copied", 1), ("doubler", 2)]
assert versions("name LIKE 'doub%' and version_number > 1") == [("doubler", 2)]
assert versions("source_path = 'models:/doubler/2'") == [("copied", 1)]
for n in range(5):
    client.create_registered_model(f"m {n}", tags={"n": str(n)})
refused("RESOURCE_ALREADY_EXISTS", client.create_registered_model, "m 1")
refused("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, "none")
refused("INVALID_PARAMETER_VALUE", client.create_registered_model, "a/b")
all_names = [one.name for one in client.search_registered_models()]
assert all_names == ["churn", "copied", "doubler", "m 0", "m 1", "m 2", "m 3", "m 4"], all_names
assert [one.name for one in client.search_registered_models("tags.n = '3'")] == ["m 3"]
assert [one.name for one in client.search_registered_models("name ILIKE 'M %'", order_by=["name DESC"], max_results=2)] == ["m 4", "m 3"]
page, seen = client.search_registered_models(max_results=3), []
while True:
    seen += [one.name for one in page]
    if not page.token:
        break
    page = client.search_registered_models(max_results=3, page_token=page.token)
assert seen == all_names
client.rename_registered_model("doubler", "twice")
assert mlflow.pyfunc.load_model("models:/twice@champion").predict(frame)["x"].tolist() == [2.0, 4.0]
refused("RESOURCE_ALREADY_EXISTS", client.rename_registered_model, "twice", "m 1")
client.delete_model_version("twice", 1)
assert client.get_registered_model("twice").aliases == {}
refused("RESOURCE_DOES_NOT_EXIST", client.get_model_version, "twice", 1)
client.delete_registered_model("m 0")
refused("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, "m 0")
client.create_model_version("m 1", "s3://elsewhere/model", run_id=holder, description="elsewhere")
assert client.get_model_version_download_uri("m 1", "1") == "s3://elsewhere/model"
prompt = mlflow.register_prompt("greeting", "Hello {{name}}")
assert mlflow.load_prompt("prompts:/greeting/1").format(name="Ann") == "Hello Ann"
assert "greeting" not in [one.name for one in client.search_registered_models()]
assert [one.name for one in mlflow.search_prompts()] == ["greeting"]

# What Gristmill's own pipelines made.
own = client.get_model_version_by_alias("churn", "champion")
assert own.run_id and client.get_run(own.run_id).info.run_name.startswith("run-")
there = pathlib.Path(mlflow.artifacts.download_artifacts("models:/churn@champion"))
assert (there / "model.gristmill").read_bytes() == b"a model in Gristmill's own format"
described = mlflow.models.Model.load(str(there))
assert list(described.flavors) == ["gristmill"] and described.flavors["gristmill"]["algorithm"] == "linear"
refused("RESOURCE_DOES_NOT_EXIST", client.get_run, "0" * 32)
pipeline = client.get_experiment_by_name("pipelines/churn")
runs = client.search_runs([pipeline.experiment_id], "metrics.rmse > 0 and params.depth = '1'")
assert [run.info.run_id for run in runs] == [own.run_id] and runs[0].info.status == "FINISHED"
assert [run.info.status for run in client.search_runs([pipeline.experiment_id])] == ["RUNNING", "FINISHED"]
assert client.get_metric_history(own.run_id, "rmse")[0].value == 1.0
refused("PERMISSION_DENIED", client.log_param, own.run_id, "a", "b")
refused("PERMISSION_DENIED", client.set_terminated, own.run_id)
refused("PERMISSION_DENIED", client.create_run, pipeline.experiment_id)
refused("PERMISSION_DENIED", client.delete_experiment, pipeline.experiment_id)
assert pipeline.name in [one.name for one in client.search_experiments()]

# Many at once: numbers without gaps.
made, failed = [], []


def register():
    try:
        made.append(int(client.create_model_version("m 2", f"runs:/{holder}/model", run_id=holder).version))
    except Exception as error:
        failed.append(error)


threads = [threading.Thread(target=register) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not failed and sorted(made) == list(range(1, 17)), (made, failed)
started = []
threads = [threading.Thread(target=lambda: started.append(client.create_run(other).info.run_id)) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(client.search_runs([other])) == 16 == len(set(started))
print("done")
