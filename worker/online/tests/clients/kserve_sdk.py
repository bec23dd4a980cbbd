"""The kserve SDK's inference client against a server, in both versions of the protocol."""

import asyncio
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(url):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "sum")
    assert not await client.is_model_ready(url, "nothing")

    for binary in (False, True):
        x = InferInput(name="x", shape=[2], datatype="FP64")
        x.set_data_from_numpy(np.array([1.5, 20.0]), binary_data=binary)
        y = InferInput(name="y", shape=[2], datatype="INT64")
        y.set_data_from_numpy(np.array([2, 3]), binary_data=binary)
        request = InferRequest(model_name="sum", infer_inputs=[x, y], request_id="r-1")
        answer = await client.infer(url, request, model_name="sum")
        assert answer.model_name == "sum", answer
        assert answer.id == "r-1", answer.id
        outputs = {output.name: output.as_numpy() for output in answer.outputs}
        np.testing.assert_array_equal(outputs["prediction"], np.array([3.5, 23.0]))

    bad = InferRequest(model_name="sum", infer_inputs=[InferInput(name="x", shape=[1], datatype="FP64", data=[1.0])])
    try:
        await client.infer(url, bad, model_name="sum")
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 400, error
        assert "the request has no column `y`" in str(error), error
    else:
        raise AssertionError("a request without a column was answered")

    first = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await first.infer(url, {"instances": [{"x": 1, "y": 2}]}, model_name="sum")
    assert answer == {"predictions": [{"prediction": 3.0, "size": "small"}]}, answer


asyncio.run(main("http://" + sys.argv[1]))
