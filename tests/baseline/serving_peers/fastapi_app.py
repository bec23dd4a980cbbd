"""One row in, its probability out, with FastAPI: by scikit-learn or ONNX Runtime, as ENGINE says, from FOLDER."""

import os

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

FOLDER = os.environ["FOLDER"]

if os.environ["ENGINE"] == "onnx":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One row is no work for several threads.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.path.join(FOLDER, "forest.onnx"), options)
    name = session.get_inputs()[0].name

    def predict(rows):
        return session.run(["probabilities"], {name: rows})[0][:, 1]
else:
    import joblib

    forest = joblib.load(os.path.join(FOLDER, "forest.joblib"))

    def predict(rows):
        return forest.predict_proba(rows)[:, 1]


class Request(BaseModel):
    rows: list[list[float]]


class Response(BaseModel):
    predictions: list[float]


app = FastAPI()


# `async`: without a hop to another thread, which costs more than a forest in ONNX Runtime.
@app.post("/predict")
async def answer(request: Request) -> Response:
    return Response(predictions=predict(np.array(request.rows, dtype=np.float32)).tolist())
