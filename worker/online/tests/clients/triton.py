"""tritonclient[http] against a server: binary and JSON, compressed, health, metadata, repository, errors."""

import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])

assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("sum")
assert client.is_model_ready("sum", "2")
assert not client.is_model_ready("nothing")

metadata = client.get_server_metadata()
assert "binary_tensor_data" in metadata["extensions"], metadata
metadata = client.get_model_metadata("sum")
assert [tensor["name"] for tensor in metadata["inputs"]] == ["x", "y", "kind"], metadata
assert metadata["inputs"][2]["datatype"] == "BYTES", metadata
assert metadata["versions"] == ["1", "2"], metadata
config = client.get_model_config("sum")
assert config["max_batch_size"] > 1, config
assert config["input"][0] == {"name": "x", "data_type": "TYPE_FP64", "dims": [1], "optional": False}, config

index = client.get_model_repository_index()
assert {"name": "sum", "version": "1", "state": "READY", "reason": ""} in index, index
client.load_model("sum")
client.unload_model("sum")


def column(name, values, datatype, binary):
    tensor = triton.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


x = np.array([1.5, 20.0, -3.25])
y = np.array([2, 3, 4], dtype=np.int32)
kind = np.array(["a", "é", ""], dtype=object)
expected = x + y

for binary in (True, False):
    inputs = [column("kind", kind, "BYTES", binary), column("y", y, "INT32", binary), column("x", x, "FP64", binary)]
    for outputs in (
        None,
        [triton.InferRequestedOutput("prediction", binary_data=True), triton.InferRequestedOutput("size", binary_data=True)],
        [triton.InferRequestedOutput("size", binary_data=False), triton.InferRequestedOutput("prediction", binary_data=False)],
        [triton.InferRequestedOutput("prediction", binary_data=True), triton.InferRequestedOutput("size", binary_data=False)],
    ):
        for request in (None, "gzip", "deflate"):
            for response in (None, "gzip", "deflate"):
                result = client.infer(
                    "sum",
                    inputs,
                    outputs=outputs,
                    request_id="r-1",
                    request_compression_algorithm=request,
                    response_compression_algorithm=response,
                )
                np.testing.assert_array_equal(result.as_numpy("prediction"), expected)
                sizes = [size if isinstance(size, str) else size.decode() for size in result.as_numpy("size")]
                assert sizes == ["small", "large", "small"], sizes
                answer = result.get_response()
                assert answer["id"] == "r-1" and answer["model_name"] == "sum" and answer["model_version"] == "1", answer

# Many rows, so that the answer is compressed.
many = np.arange(50_000, dtype=np.float64)
for response in (None, "gzip", "deflate"):
    inputs = [column("x", many, "FP64", True), column("y", many.astype(np.float32), "FP32", True)]
    result = client.infer("sum", inputs, response_compression_algorithm=response, model_version="challenger")
    np.testing.assert_array_equal(result.as_numpy("prediction"), many * 2 + 1)

# NaN goes in and comes out, as null where it is JSON.
holes = np.array([1.0, np.nan])
inputs = [column("x", holes, "FP64", True), column("y", holes, "FP64", True)]
result = client.infer("sum", inputs)
np.testing.assert_array_equal(result.as_numpy("prediction"), np.array([2.0, np.nan]))
outputs = [triton.InferRequestedOutput("prediction", binary_data=False)]
answer = client.infer("sum", inputs, outputs=outputs).get_response()
assert answer["outputs"][0]["data"] == [2.0, None], answer

statistics = client.get_inference_statistics("sum")["model_stats"][0]
assert statistics["inference_count"] > 4 and statistics["inference_stats"]["success"]["count"] > 1, statistics

for inputs, text in (
    ([column("x", x, "FP64", True)], "the request has no column `y`"),
    ([column("x", x, "FP64", True), column("y", y[:2], "INT32", True)], "column `y` has 2 rows and others have 3"),
    ([column("x", kind, "BYTES", True), column("y", y, "INT32", True)], "column `x` is text in row 0"),
):
    try:
        client.infer("sum", inputs)
    except InferenceServerException as error:
        assert error.status() == "400" and text in error.message(), (error.status(), error.message())
    else:
        raise AssertionError(text)
try:
    client.infer("nothing", [column("x", x, "FP64", True)])
except InferenceServerException as error:
    assert error.message() == "there is no model `nothing`", error.message()
else:
    raise AssertionError("a model that isn't there answered")
