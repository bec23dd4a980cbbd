"""The flights example as people write it today: pandas and scikit-learn.

The yardstick for `examples/flight-delays`: the same 12 files, the same filter, columns, split, encoding and
forest, all test rows scored into a Parquet file. Prints one JSON object: seconds by stage, peak resident
memory in MB and the area under the ROC curve.

    python flights_sklearn.py DATA_DIR [OUTPUT.parquet]

Needs pandas, scikit-learn and pyarrow.
"""

import glob
import json
import resource
import sys
import time

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

NUMERIC = ["dep_delay", "distance", "hour"]
CATEGORICAL = ["carrier", "origin", "dest", "month"]


def main(data_dir, output):
    seconds = {}
    begun = time.perf_counter()

    def stage(name):
        nonlocal begun
        now = time.perf_counter()
        seconds[name] = round(now - begun, 3)
        begun = now

    files = sorted(glob.glob(f"{data_dir}/flights-2013-*.csv.gz"))
    flights = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    stage("read")

    trips = flights[flights["arr_delay"].notna()]
    features, late = trips[NUMERIC + CATEGORICAL], trips["arr_delay"] > 15
    train_x, test_x, train_y, test_y = train_test_split(
        features, late, test_size=0.2, stratify=late, random_state=7
    )
    stage("prepare")

    model = Pipeline(
        [
            (
                "features",
                ColumnTransformer(
                    [
                        ("numeric", "passthrough", NUMERIC),
                        ("categorical", OneHotEncoder(handle_unknown="ignore"), CATEGORICAL),
                    ]
                ),
            ),
            ("forest", RandomForestClassifier(n_estimators=100, max_depth=12, n_jobs=-1, random_state=7)),
        ]
    )
    model.fit(train_x, train_y)
    stage("fit")

    probability = model.predict_proba(test_x)[:, 1]
    auc = roc_auc_score(test_y, probability)
    stage("validate")

    scored = test_x.assign(late=test_y, prediction=probability > 0.5, probability=probability)
    scored.to_parquet(output)
    stage("score")

    print(
        json.dumps(
            {
                "rows": {"train": len(train_x), "test": len(test_x)},
                "seconds": seconds,
                "total_seconds": round(sum(seconds.values()), 3),
                "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                "roc_auc": auc,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "scores.parquet")
