"""One row in, its probability out, with FastAPI: by scikit-learn or ONNX Runtime, as ENGINE says, from FOLDER."""

import os
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

FOLDER = Path(os.environ["FOLDER"])

if os.environ["ENGINE"] == "onnx":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One row is no work for several threads.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(FOLDER / "forest.onnx", options)
    name = session.get_inputs()[0].name

    def predict(rows):
        """Probabilities, one a row."""
        return session.run(["probabilities"], {name: rows})[0][:, 1]
else:
    import joblib

    forest = joblib.load(FOLDER / "forest.joblib")

    def predict(rows):
        """Probabilities, one a row."""
        return forest.predict_proba(rows)[:, 1]


class Request(BaseModel):
    """Rows of seven numbers."""

    rows: list[list[float]]


class Response(BaseModel):
    """Probabilities, one a row."""

    predictions: list[float]


app = FastAPI()


# `async`: without a hop to another thread, which costs more than a forest in ONNX Runtime.
@app.post("/predict")
async def answer(request: Request) -> Response:
    """Scores rows."""
    return Response(predictions=predict(np.array(request.rows, dtype=np.float32)).tolist())
