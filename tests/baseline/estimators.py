"""Our estimators beside scikit-learn's: the same rows, the same settings, quality, seconds and megabytes.

    cargo build --release -p gristmill-learn --example learn_speed
    cargo build --release
    python tests/baseline/estimators.py target/release/examples/learn_speed target/release/gristmill [THREADS]

The logistic regression is the program's own step, which reads the rows and fits the features as well; scikit-learn's is
the fit alone. K-means has eight groups, ten starts and columns of the same scale; its quality is the inertia (less is
better, given relative to scikit-learn's), that of all others the area under the ROC curve. Needs numpy, pandas, scikit-learn and GNU time. Each fit is a process of its own, so that the peak of its memory is its own;
files are read before the clock starts. Data: scikit-learn's `make_classification` (100,000 rows of 20 columns, 80,000
to learn from), its breast cancer set, and the flights of examples/flight-delays.
"""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
METHODS = {
    "forest": ("random forest", {"depth_max": 12}),
    "extra": ("extra trees", {"depth_max": 12, "bootstrap": False, "random_cuts": True}),
    "boost": ("gradient boosting", {}),
    "logistic": ("logistic regression", {}),
    "kmeans": ("k-means", {"groups": 8, "starts": 10}),
}
PIPELINE = """name: logistic
steps:
  learned: { ingest: { source: TRAIN } }
  kept: { ingest: { source: TEST } }
  model:
    train:
      input: learned
      target: class
      task: classification
      features: { numeric: [COLUMNS] }
      algorithm: { logistic_regression: { alpha: 1 } }
  quality: { validate: { model: model, input: kept, intervals: { draws: 0 } } }
"""


def datasets(folder):
    """Writes TRAIN and TEST files and returns their names by data set, with the number of columns."""
    import numpy as np
    import pandas as pd
    from sklearn.datasets import load_breast_cancer, make_classification

    def write(name, x, y):
        rows = np.random.default_rng(0).random(len(y)) < 0.8
        table = pd.DataFrame(np.asarray(x, np.float32)).add_prefix("x")
        table["class"] = np.asarray(y, int)
        paths = [os.path.join(folder, f"{name}_{part}.csv") for part in ("train", "test")]
        table[rows].to_csv(paths[0], index=False, float_format="%.9g")
        table[~rows].to_csv(paths[1], index=False, float_format="%.9g")
        return paths, table.shape[1] - 1

    found = {}
    x, y = make_classification(100_000, 20, n_informative=10, n_redundant=4, flip_y=0.05, random_state=1)
    found["synthetic"] = write("synthetic", x, y)
    cancer = load_breast_cancer()
    found["breast cancer"] = write("cancer", cancer.data, cancer.target)
    files = sorted(glob.glob(os.path.join(ROOT, "examples/flight-delays/data/*.csv.gz")))
    flights = pd.concat([pd.read_csv(path) for path in files])
    flights = flights[flights.arr_delay.notna() & flights.dep_delay.notna()]
    x = flights[["dep_delay", "distance", "hour"]].copy()
    for column in ("carrier", "origin", "dest", "month"):
        x[column] = flights[column].astype("category").cat.codes
    found["flights"] = write("flights", x.to_numpy(), (flights.arr_delay > 15).astype(int).to_numpy())
    return found


def sklearn_fit(method, train, test, threads, columns):
    """One fit in this process; prints what the parent reads."""
    import pandas as pd
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    a, b = (pd.read_csv(path).to_numpy("float32") for path in (train, test))
    forest = {"n_estimators": 100, "max_depth": 12, "n_jobs": threads, "random_state": 1}
    if method == "kmeans":
        from sklearn.cluster import KMeans

        x = scaled(a[:, :-1])
        began = time.perf_counter()
        model = KMeans(8, n_init=10, random_state=1).fit(x)
        print(json.dumps({"seconds": time.perf_counter() - began, "auc": model.inertia_}))
        return
    model = {
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "forest": lambda: RandomForestClassifier(**forest),
        "extra": lambda: ExtraTreesClassifier(**forest, max_features="sqrt"),
        "boost": lambda: HistGradientBoostingClassifier(early_stopping=False),
    }[method]()
    began = time.perf_counter()
    model.fit(a[:, :-1], a[:, -1].astype(int))
    seconds = time.perf_counter() - began
    auc = roc_auc_score(b[:, -1].astype(int), model.predict_proba(b[:, :-1])[:, 1])
    print(json.dumps({"seconds": seconds, "auc": auc}))


def scaled(x):
    """Columns of mean 0 and standard deviation 1."""
    deviation = x.std(axis=0)
    deviation[deviation == 0] = 1
    return (x - x.mean(axis=0)) / deviation


def scaled_file(path):
    """The same file with scaled columns."""
    import pandas as pd

    table = pd.read_csv(path).astype("float32")
    table.iloc[:, :-1] = scaled(table.iloc[:, :-1].to_numpy())
    table.to_csv(path + ".scaled", index=False, float_format="%.9g")
    return path + ".scaled"


def logistic(program, train, test, columns, threads):
    """The program's step on these files."""
    with tempfile.TemporaryDirectory() as folder:
        names = ", ".join(f"x{at}" for at in range(columns))
        text = PIPELINE.replace("TRAIN", train).replace("TEST", test).replace("COLUMNS", names)
        with open(os.path.join(folder, "logistic.yaml"), "w") as file:
            file.write(text)
        command = [program, "run", os.path.join(folder, "logistic.yaml"), "--slots", str(threads), "--json"]
        home = ["--home", os.path.join(folder, "home")]
        text, mib = measured([*command, *home], None)
        seconds = json.loads(text)["steps"]["model"]["seconds"]
        shown = subprocess.run([program, "show", *home], capture_output=True, text=True, check=True).stdout
        return {"seconds": seconds, "auc": float(re.search(r"roc_auc ([0-9.]+)", shown).group(1)), "mib": mib}


def ours(binary, program, method, train, test, threads, columns):
    if method == "logistic":
        return logistic(program, train, test, columns, threads)
    if method == "kmeans":
        train = scaled_file(train)
        text, mib = measured([binary, train, test, method, str(threads), json.dumps(METHODS[method][1])], None)
        seconds, inertia = (float(re.search(rf"{what} ([0-9.]+)", text).group(1)) for what in ("fit", "inertia"))
        return {"seconds": seconds, "auc": inertia, "mib": mib}
    settings = dict(METHODS[method][1])
    if method != "boost":
        settings["columns_tried"] = int(columns**0.5)
    kind = "boost" if method == "boost" else "forest"
    text, mib = measured([binary, train, test, kind, str(threads), json.dumps(settings)], None)
    seconds, auc = (float(re.search(rf"{what} ([0-9.]+)", text, re.I).group(1)) for what in ("fit", "auc"))
    return {"seconds": seconds, "auc": auc, "mib": mib}


def measured(command, environment):
    """What a process printed, and the peak of its memory in MiB. A process begins with the peak of whoever started
    it, so a small one, GNU time, stands between."""
    timed = ["/usr/bin/env", "time", "-f", "%M", *command]
    run = subprocess.run(timed, capture_output=True, text=True, check=True, env=environment)
    return run.stdout, int(run.stderr.split()[-1]) / 1024


def main():
    if sys.argv[1] == "--fit":
        method, train, test, threads, columns = sys.argv[2:]
        return sklearn_fit(method, train, test, int(threads), int(columns))
    binary, program = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads))
    print(f"threads: {threads}")
    print(f"{'':34} {'ours':>24} {'scikit-learn':>24}   time    auc")
    with tempfile.TemporaryDirectory() as folder:
        for data, ((train, test), columns) in datasets(folder).items():
            for method, (name, _) in METHODS.items():
                a = ours(binary, program, method, train, test, threads, columns)
                call = [sys.executable, __file__, "--fit", method, train, test, str(threads), str(columns)]
                text, mib = measured(call, environment)
                b = {**json.loads(text), "mib": mib}
                if method == "kmeans":
                    a["auc"], b["auc"] = a["auc"] / b["auc"], 1
                cell = lambda one: f"{one['seconds']:6.2f} s {one['auc']:.4f} {one['mib']:5.0f} MiB"
                ratio, difference = a["seconds"] / b["seconds"], a["auc"] - b["auc"]
                print(f"{data:14} {name:19} {cell(a):>24} {cell(b):>24}   {ratio:4.2f} {difference:+.4f}", flush=True)


if __name__ == "__main__":
    main()
