"""Writes the forest as MLflow keeps models: `mlflow_model.py FOLDER` makes FOLDER/mlflow of FOLDER/forest.joblib."""

import os
import sys

import joblib
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature

folder = sys.argv[1]
forest = joblib.load(os.path.join(folder, "forest.joblib"))
row = np.zeros((1, 7), np.float32)
mlflow.sklearn.save_model(
    forest,
    os.path.join(folder, "mlflow"),
    signature=infer_signature(row, forest.predict_proba(row)),
    pyfunc_predict_fn="predict_proba",
    serialization_format="cloudpickle",
)
