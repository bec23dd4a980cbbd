"""The forest that the other servers serve, trained on the same flights: `forest.py DATA FOLDER`.

Writes forest.joblib and forest.onnx, and row.json with one row as the numbers that they take: categories are codes
already, so that these servers are spared what Gristmill does with the texts of a row.
"""

import glob
import json
import os
import sys

import joblib
import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

NUMERIC = ["dep_delay", "distance", "hour"]
CATEGORICAL = ["carrier", "origin", "dest", "month"]


def main(data, folder):
    flights = pd.concat([pd.read_csv(path) for path in sorted(glob.glob(os.path.join(data, "*.csv.gz")))])
    flights = flights[flights.arr_delay.notna()]
    columns = [flights[column].fillna(flights[column].mean()) for column in NUMERIC]
    columns += [flights[column].astype("category").cat.codes for column in CATEGORICAL]
    matrix = np.column_stack(columns).astype(np.float32)
    forest = RandomForestClassifier(100, max_depth=12, max_features=2, n_jobs=-1, random_state=1)
    forest.fit(matrix, flights.arr_delay > 15).set_params(n_jobs=1)
    joblib.dump(forest, os.path.join(folder, "forest.joblib"))
    onnx = to_onnx(forest, matrix[:1], options={"zipmap": False})
    with open(os.path.join(folder, "forest.onnx"), "wb") as file:
        file.write(onnx.SerializeToString())
    named = {column: flights[column].iloc[0].item() for column in NUMERIC}
    named |= {column: getattr(flights[column].iloc[0], "item", lambda: flights[column].iloc[0])() for column in CATEGORICAL}
    with open(os.path.join(folder, "row.json"), "w") as file:
        json.dump({"numbers": matrix[0].tolist(), "named": named}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
