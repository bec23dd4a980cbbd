"""The forest that the other servers serve, trained on the same flights: `forest.py DATA FOLDER`.

Writes forest.joblib and forest.onnx, and row.json with one row as the numbers that they take, with its names, and with
its probability. Categories are codes already, so that these servers are spared what Gristmill does with a row's texts.
"""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

NUMERIC = ["dep_delay", "distance", "hour"]
CATEGORICAL = ["carrier", "origin", "dest", "month"]


def main(data, folder):
    """Trains and writes."""
    flights = pd.concat([pd.read_csv(path) for path in sorted(data.glob("*.csv.gz"))])
    flights = flights[flights.arr_delay.notna()]
    columns = [flights[column].fillna(flights[column].mean()) for column in NUMERIC]
    columns += [flights[column].astype("category").cat.codes for column in CATEGORICAL]
    matrix = np.column_stack(columns).astype(np.float32)
    forest = RandomForestClassifier(100, max_depth=12, max_features=2, n_jobs=-1, random_state=1)
    forest.fit(matrix, flights.arr_delay > 15).set_params(n_jobs=1)
    joblib.dump(forest, folder / "forest.joblib")
    onnx = to_onnx(forest, matrix[:1], options={"zipmap": False})
    (folder / "forest.onnx").write_bytes(onnx.SerializeToString())
    first = {column: flights[column].iloc[0] for column in NUMERIC + CATEGORICAL}
    row = {
        "numbers": matrix[0].tolist(),
        "named": {column: value if isinstance(value, str) else value.item() for column, value in first.items()},
        "probability": float(forest.predict_proba(matrix[:1])[0, 1]),
    }
    (folder / "row.json").write_text(json.dumps(row))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
