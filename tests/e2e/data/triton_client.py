"""Run in an environment with `tritonclient`: talks to an endpoint as its users do. `host:port/base key` -> JSON."""

import json
import sys

import numpy as np
import tritonclient.http as triton

base, key = sys.argv[1:3]


def auth():
    """A dict of its own for each call: the client adds to the one it is given."""
    return {"Authorization": "Bearer " + key}


client = triton.InferenceServerClient(url=base)
said = {
    "live": client.is_server_live(headers=auth()),
    "ready": client.is_server_ready(headers=auth()),
    "model": client.is_model_ready("linear", headers=auth()),
    "server": client.get_server_metadata(headers=auth())["extensions"],
    "index": client.get_model_repository_index(headers=auth()),
    "inputs": client.get_model_metadata("linear", headers=auth())["inputs"],
}
data = np.arange(6, dtype=np.float32).reshape(2, 3)
for binary in (True, False):
    given = triton.InferInput("x", data.shape, "FP32")
    given.set_data_from_numpy(data, binary_data=binary)
    wanted = [triton.InferRequestedOutput("y", binary_data=binary)]
    found = client.infer("linear", [given], model_version="1", outputs=wanted, request_id="7", headers=auth())
    said["binary" if binary else "json"] = found.as_numpy("y").tolist()
    said["id"] = found.get_response()["id"]
packed = triton.InferInput("x", data.shape, "FP32")
packed.set_data_from_numpy(data)
for way in ("gzip", "deflate"):
    found = client.infer("linear", [packed], request_compression_algorithm=way, headers=auth())
    said[way] = found.as_numpy("y").tolist()
text = triton.InferInput("text", [2], "BYTES")
text.set_data_from_numpy(np.array(["ahoi", "\u00e4"], dtype=object))
said["words"] = [w.decode() for w in client.infer("words", [text], headers=auth()).as_numpy("same")]
print(json.dumps(said))
