"""tritonclient[grpc] against a server: raw tensors, health, metadata, deadlines, errors."""

import sys

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])

assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("sum")
assert client.is_model_ready("sum", "2")
assert not client.is_model_ready("nothing")
assert client.get_server_metadata().name == "gristmill"
metadata = client.get_model_metadata("sum")
assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
    ("x", "FP64", [-1]),
    ("y", "FP64", [-1]),
    ("kind", "BYTES", [-1]),
], metadata
assert list(metadata.versions) == ["1", "2"], metadata


def column(name, values, datatype):
    tensor = triton.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor


x = np.array([1.5, 20.0, -3.25])
y = np.array([2, 3, 4], dtype=np.int32)
kind = np.array(["a", "é", ""], dtype=object)
inputs = [column("kind", kind, "BYTES"), column("y", y, "INT32"), column("x", x, "FP64")]
result = client.infer("sum", inputs, request_id="r-1", headers={"gristmill-key": "k"}, client_timeout=30, timeout=20_000_000)
np.testing.assert_array_equal(result.as_numpy("prediction"), x + y)
assert [size.decode() for size in result.as_numpy("size")] == ["small", "large", "small"]
response = result.get_response()
assert (response.id, response.model_name, response.model_version) == ("r-1", "sum", "1"), response
assert len(response.raw_output_contents) == 2, response

# One output, by an alias, of many rows: more than the 4 MiB that gRPC takes when nothing is said.
many = np.arange(400_000, dtype=np.float64)
inputs = [column("x", many, "FP64"), column("y", many.astype(np.float32), "FP32")]
result = client.infer("sum", inputs, model_version="challenger", outputs=[triton.InferRequestedOutput("prediction")])
np.testing.assert_array_equal(result.as_numpy("prediction"), many * 2 + 1)
assert result.as_numpy("size") is None

# Contents by type in, contents by type out; no model named: the only one answers.
stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(sys.argv[1]))
request = service_pb2.ModelInferRequest()
for name, datatype, field, values in (
    ("x", "FP32", "fp32_contents", [1.5, 2.5]),
    ("y", "UINT8", "uint_contents", [1, 255]),
    ("kind", "BYTES", "bytes_contents", ["a".encode(), "é".encode()]),
):
    tensor = request.inputs.add(name=name, datatype=datatype, shape=[2])
    getattr(tensor.contents, field).extend(values)
response, call = stub.ModelInfer.with_call(request, metadata=[("x-request-id", "q-7")])
assert list(response.outputs[0].contents.fp64_contents) == [2.5, 257.5], response
assert list(response.outputs[1].contents.bytes_contents) == [b"small", b"large"], response
metadata = dict(call.initial_metadata())
assert metadata["x-request-id"] == "q-7" and metadata["gristmill-model-version"] == "1", metadata

# Many calls at once over one connection.
calls = [stub.ModelInfer.future(request) for _ in range(500)]
assert all(list(call.result().outputs[0].contents.fp64_contents) == [2.5, 257.5] for call in calls)

for inputs, name, code, text in (
    ([column("x", x, "FP64")], "sum", "INVALID_ARGUMENT", "the request has no column `y`"),
    ([column("x", x, "FP64"), column("y", y[:2], "INT32")], "sum", "INVALID_ARGUMENT", "column `y` has 2 rows"),
    ([column("x", x, "FP64")], "nothing", "NOT_FOUND", "there is no model `nothing`"),
):
    try:
        client.infer(name, inputs)
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}" and text in error.message(), (error.status(), error.message())
    else:
        raise AssertionError(text)


def fails(call, code):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error
    raise AssertionError(code)


# A method of Triton's own, a message that is none, a compressed one, and one that says it is longer than may be.
fails(lambda: stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest()), grpc.StatusCode.UNIMPLEMENTED)
raw = grpc.insecure_channel(sys.argv[1]).unary_unary("/inference.GRPCInferenceService/ModelInfer")
fails(lambda: raw(b"\xff\xff\xff"), grpc.StatusCode.INVALID_ARGUMENT)
fails(lambda: stub.ModelInfer(request, compression=grpc.Compression.Gzip), grpc.StatusCode.UNIMPLEMENTED)
fails(lambda: raw(bytes(65 * 1024 * 1024)), grpc.StatusCode.OUT_OF_RANGE)
# Little on the wire, and gigabytes in memory.
fails(lambda: raw(b"\x2a\x00" * 2_000_000), grpc.StatusCode.RESOURCE_EXHAUSTED)
# A deadline that is over before anything happens.
fails(lambda: stub.ModelInfer(request, metadata=[("gristmill-timeout-ms", "0")]), grpc.StatusCode.DEADLINE_EXCEEDED)
client.close()
