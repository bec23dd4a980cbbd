"""One row in, its probability out, with BentoML; WORKERS processes, the model in FOLDER."""

import os
from pathlib import Path

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=int(os.environ["WORKERS"]), logging={"access": {"enabled": False}})
class Forest:
    """The service."""

    def __init__(self):
        self.forest = joblib.load(Path(os.environ["FOLDER"]) / "forest.joblib")

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[float]:
        """Probabilities, one a row."""
        return self.forest.predict_proba(np.array(rows, dtype=np.float32))[:, 1].tolist()
