"""The kserve SDK's gRPC client against a server."""

import asyncio
import sys

import grpc
import numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceGRPCClient


async def main(address):
    client = InferenceGRPCClient(address)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("sum")

    for binary in (False, True):
        x = InferInput(name="x", shape=[2], datatype="FP64")
        x.set_data_from_numpy(np.array([1.5, 20.0]), binary_data=binary)
        y = InferInput(name="y", shape=[2], datatype="INT64")
        y.set_data_from_numpy(np.array([2, 3]), binary_data=binary)
        request = InferRequest(model_name="sum", infer_inputs=[x, y], request_id="r-1")
        answer = await client.infer(request)
        assert (answer.model_name, answer.model_version, answer.id) == ("sum", "1", "r-1"), answer
        outputs = {output.name: output.as_numpy() for output in answer.outputs}
        np.testing.assert_array_equal(outputs["prediction"], np.array([3.5, 23.0]))

    bad = InferRequest(model_name="sum", infer_inputs=[InferInput(name="x", shape=[1], datatype="FP64", data=[1.0])])
    try:
        await client.infer(bad)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        assert "the request has no column `y`" in error.details(), error
    else:
        raise AssertionError("a request without a column was answered")
    await client.close()


asyncio.run(main(sys.argv[1]))
