"""Our estimators beside scikit-learn's: the same rows, the same settings, quality, seconds and megabytes.

    cargo build --release -p gristmill-learn --example learn_speed
    python tests/baseline/estimators.py target/release/examples/learn_speed [THREADS]

Needs numpy, pandas and scikit-learn. Each fit is a process of its own, so that the peak of its memory is its own;
files are read before the clock starts. Data: scikit-learn's `make_classification` (100,000 rows of 20 columns, 80,000
to learn from), its breast cancer set, and the flights of examples/flight-delays.
"""

import glob
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
METHODS = {
    "forest": ("random forest", {"depth_max": 12}),
    "extra": ("extra trees", {"depth_max": 12, "bootstrap": False, "random_cuts": True}),
    "boost": ("gradient boosting", {}),
}


def datasets(folder):
    """Writes TRAIN and TEST files and returns their names by data set, with the number of columns."""
    import numpy as np
    import pandas as pd
    from sklearn.datasets import load_breast_cancer, make_classification

    def write(name, x, y):
        rows = np.random.default_rng(0).random(len(y)) < 0.8
        table = pd.DataFrame(np.column_stack([np.asarray(x, np.float32), y]))
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
    from sklearn.metrics import roc_auc_score

    a, b = (pd.read_csv(path).to_numpy("float32") for path in (train, test))
    forest = {"n_estimators": 100, "max_depth": 12, "n_jobs": threads, "random_state": 1}
    model = {
        "forest": lambda: RandomForestClassifier(**forest),
        "extra": lambda: ExtraTreesClassifier(**forest, max_features="sqrt"),
        "boost": lambda: HistGradientBoostingClassifier(early_stopping=False),
    }[method]()
    began = time.perf_counter()
    model.fit(a[:, :-1], a[:, -1].astype(int))
    seconds = time.perf_counter() - began
    auc = roc_auc_score(b[:, -1].astype(int), model.predict_proba(b[:, :-1])[:, 1])
    print(json.dumps({"seconds": seconds, "auc": auc, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def ours(binary, method, train, test, threads, columns):
    settings = dict(METHODS[method][1])
    if method != "boost":
        settings["columns_tried"] = int(columns**0.5)
    kind = "boost" if method == "boost" else "forest"
    run = subprocess.run(
        ["/usr/bin/env", "time", "-f", "%M", binary, train, test, kind, str(threads), json.dumps(settings)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {
        "seconds": float(re.search(r"fit ([0-9.]+) s", run.stdout).group(1)),
        "auc": float(re.search(r"auc ([0-9.]+)", run.stdout, re.I).group(1)),
        "mib": int(run.stderr.split()[-1]) / 1024,
    }


def main():
    if sys.argv[1] == "--fit":
        method, train, test, threads, columns = sys.argv[2:]
        return sklearn_fit(method, train, test, int(threads), int(columns))
    binary, threads = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads))
    print(f"threads: {threads}")
    print(f"{'':34} {'ours':>24} {'scikit-learn':>24}   time    auc")
    with tempfile.TemporaryDirectory() as folder:
        for data, ((train, test), columns) in datasets(folder).items():
            for method, (name, _) in METHODS.items():
                a = ours(binary, method, train, test, threads, columns)
                call = [sys.executable, __file__, "--fit", method, train, test, str(threads), str(columns)]
                b = json.loads(subprocess.run(call, capture_output=True, text=True, check=True, env=environment).stdout)
                cell = lambda one: f"{one['seconds']:6.2f} s {one['auc']:.4f} {one['mib']:5.0f} MiB"
                ratio, difference = a["seconds"] / b["seconds"], a["auc"] - b["auc"]
                print(f"{data:14} {name:19} {cell(a):>24} {cell(b):>24}   {ratio:4.2f} {difference:+.4f}", flush=True)


if __name__ == "__main__":
    main()
