"""Writes the forest as MLflow keeps models: `mlflow_model.py FOLDER` makes FOLDER/mlflow of FOLDER/forest.joblib."""

import sys
from pathlib import Path

import joblib
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature

folder = Path(sys.argv[1])
forest = joblib.load(folder / "forest.joblib")
row = np.zeros((1, 7), np.float32)
mlflow.sklearn.save_model(
    forest,
    folder / "mlflow",
    signature=infer_signature(row, forest.predict_proba(row)),
    pyfunc_predict_fn="predict_proba",
    serialization_format="cloudpickle",
)
