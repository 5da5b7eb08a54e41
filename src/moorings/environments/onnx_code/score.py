"""Scoring script of ONNX models that come without one: the Open Inference Protocol v2 over HTTP, through onnxruntime.

Runs in an environment of its own (onnxruntime, numpy); imports of Moorings only the marks of a script.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any, Dict, List, Optional, Tuple

import onnxruntime
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from oip_models import Model, Tensor, Version, load_repository
from oip_tensors import DTYPES, TensorError, fits, from_binary, from_json, shape_of, to_binary, to_json

from moorings_server import routes

NAME = "moorings-onnx"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
BODY_LIMIT_BYTES = 100 * 1024 * 1024
LONGEST_NUMBER = 12
JSON_LENGTH = "Inference-Header-Content-Length"

models: Dict[str, Model] = {}


class Refusal(Exception):
    """The request cannot be served; answered with `status` and `{"error": ...}`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def init() -> None:
    models.update(load_repository(os.environ["AZUREML_MODEL_DIR"]))
    for name in sorted(models):
        print("model %s: versions %s" % (name, ", ".join(sorted(models[name].versions, key=int))))


@routes("/v2")
@rawhttp
def run(request: Any) -> Any:
    try:
        return route(request)
    except Refusal as refusal:
        return AMLResponse({"error": str(refusal)}, refusal.status, json_str=True)


def route(request: Any) -> Any:
    """Raises Refusal."""
    parts = [part for part in request.path.split("/") if part]
    if parts == ["score"]:
        return _wants("POST", request, lambda: infer(request, *_only_model()))
    parts = parts[1:]
    if not parts:
        server = {"name": NAME, "version": onnxruntime.__version__, "extensions": EXTENSIONS}
        return _wants("GET", request, lambda: server)
    if parts in (["health", "live"], ["health", "ready"]):
        return _wants("GET", request, _empty)
    if parts == ["repository", "index"]:
        return _wants("POST", request, _index)
    if parts[0] == "models" and len(parts) > 1:
        return _model_route(request, parts[1], parts[2:])
    raise Refusal(404, "there is no %s here" % request.path)


def _model_route(request: Any, name: str, rest: List[str]) -> Any:
    model = models.get(name)
    if model is None:
        raise Refusal(404, "unknown model %r; there is: %s" % (name, ", ".join(sorted(models))))
    version = model.newest
    if rest[:1] == ["versions"] and len(rest) > 1:
        version, rest = rest[1], rest[2:]
        if version not in model.versions:
            there = ", ".join(sorted(model.versions, key=int))
            raise Refusal(
                404, "model %r has no version %r that is served; there is: %s" % (name, version, there)
            )
    if not rest:
        return _wants("GET", request, lambda: model.metadata(version))
    if rest == ["ready"]:
        return _wants("GET", request, _empty)
    if rest == ["infer"]:
        return _wants("POST", request, lambda: infer(request, model, version))
    raise Refusal(404, "there is no %s here" % request.path)


def _wants(method: str, request: Any, answer: Any) -> Any:
    if request.method != method and not (method == "GET" and request.method == "HEAD"):
        raise Refusal(405, "%s takes %s" % (request.path, method))
    return answer()


def _empty() -> Any:
    return AMLResponse("", 200)


def _index() -> Any:
    return [
        {"name": model.name, "version": version, "state": "READY"}
        for model in sorted(models.values(), key=lambda one: one.name)
        for version in sorted(model.versions, key=int)
    ]


def _only_model() -> Tuple[Model, str]:
    if len(models) > 1:
        paths = ", ".join("/v2/models/%s/infer" % name for name in sorted(models))
        raise Refusal(400, "there are several models here: send the request to one of %s" % paths)
    model = next(iter(models.values()))
    return model, model.newest


# --- inference ------------------------------------------------------------------------------------------------------


def infer(request: Any, model: Model, version: str) -> Any:
    """Raises Refusal."""
    document, blobs = _document(request)
    found = model.versions[version]
    feed = _feed(document, blobs, found)
    wanted = _outputs(document, found)
    try:
        results = found.run([tensor for tensor, _ in wanted], feed)
    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument as failure:
        raise Refusal(400, "the model refuses the inputs: %s" % failure) from failure
    answer: Dict[str, Any] = {"model_name": model.name, "model_version": version}
    if "id" in document:
        answer["id"] = document["id"]
    answer["outputs"] = outputs = []
    tail: List[bytes] = []
    for (tensor, binary), result in zip(wanted, results):
        one: Dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(result.shape)}
        if binary:
            tail.append(to_binary(result, tensor.datatype))
            one["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            try:
                one["data"] = to_json(tensor.name, result, tensor.datatype)
            except TensorError as failure:
                raise Refusal(400, str(failure)) from failure
        outputs.append(one)
    if not tail:
        return answer
    head = json.dumps(answer).encode("utf-8")
    kind = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(head))}
    return AMLResponse(b"".join([head, *tail]), 200, kind)


def _document(request: Any) -> Tuple[Dict[str, Any], memoryview]:
    """The JSON of a request, and the binary data behind it."""
    body = memoryview(_unpacked(request.data, request.headers.get("Content-Encoding", "identity")))
    length = request.headers.get(JSON_LENGTH)
    size = len(body)
    if length is not None:
        digits = length.isascii() and length.isdigit() and len(length) <= LONGEST_NUMBER
        if not (digits and int(length) <= size):
            message = "%s is %r: expected a number of bytes, at most the %d of the body"
            raise Refusal(400, message % (JSON_LENGTH, length[: LONGEST_NUMBER + 1], size))
        size = int(length)
    try:
        document = json.loads(bytes(body[:size]))
    except (ValueError, RecursionError) as failure:
        raise Refusal(400, "the request is not valid JSON: %s" % failure) from failure
    if not isinstance(document, dict):
        raise Refusal(
            400, "the request is a JSON object with the key inputs, not %s" % type(document).__name__
        )
    if not isinstance(document.get("id", ""), str):
        raise Refusal(400, "id is a text")
    return document, body[size:]


def _unpacked(data: bytes, coding: str) -> bytes:
    """Raises Refusal for a body that is not what its coding says, or is too long when it is unpacked."""
    if coding.lower() == "identity":
        return data
    if coding.lower() not in ("gzip", "deflate"):
        raise Refusal(415, "Content-Encoding is %r: gzip and deflate are supported" % coding)
    unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
    try:
        found = unpacker.decompress(data, BODY_LIMIT_BYTES)
    except zlib.error as failure:
        raise Refusal(400, "the body cannot be unpacked as %s: %s" % (coding, failure)) from failure
    if unpacker.unconsumed_tail:
        raise Refusal(413, "the body is longer than %d bytes when it is unpacked" % BODY_LIMIT_BYTES)
    if not unpacker.eof:
        raise Refusal(400, "the body cannot be unpacked as %s: it is cut off" % coding)
    return found


def _parameters(given: Any, where: str, problems: List[str]) -> Dict[str, Any]:
    parameters = given.get("parameters", {})
    if not isinstance(parameters, dict):
        problems.append("%s: parameters is an object" % where)
        return {}
    return parameters


def _feed(document: Dict[str, Any], blobs: memoryview, version: Version) -> Dict[str, Any]:
    """The arrays of a request, by input. Raises Refusal with every problem."""
    given = document.get("inputs")
    if not isinstance(given, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in given
    ):
        raise Refusal(400, "inputs is a list of objects with name, shape, datatype and data")
    known = {tensor.name: tensor for tensor in version.inputs}
    feed: Dict[str, Any] = {}
    problems: List[str] = []
    at = 0
    for one in given:
        name = one["name"]
        parameters = _parameters(one, "input %r" % name, problems)
        size = parameters.get("binary_data_size")
        blob: Optional[memoryview] = None
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(blobs) - at:
                raise Refusal(
                    400,
                    "input %r: binary_data_size is %r, and %d bytes are left" % (name, size, len(blobs) - at),
                )
            blob = blobs[at : at + size]
            at += size
        if name not in known:
            problems.append("unknown input %r; the model has: %s" % (name, ", ".join(sorted(known))))
        elif name in feed:
            problems.append("input %r is given twice" % name)
        else:
            try:
                feed[name] = _array(one, known[name], blob, version.max_batch_size)
            except TensorError as failure:
                problems.append(str(failure))
                feed[name] = None
    problems += ["input %r is missing" % name for name in known if name not in feed]
    if at != len(blobs):
        problems.append("%d bytes behind the JSON belong to no input" % (len(blobs) - at))
    if not problems and version.max_batch_size:
        batches = sorted({array.shape[0] for array in feed.values()})
        if len(batches) > 1:
            problems.append("the inputs have batches of different sizes: %s" % batches)
    if problems:
        raise Refusal(400, "; ".join(problems))
    return feed


def _array(given: Dict[str, Any], tensor: Tensor, blob: Optional[memoryview], max_batch_size: int) -> Any:
    """Raises TensorError."""
    name, datatype = tensor.name, given.get("datatype")
    if datatype != tensor.datatype:
        known = "" if datatype in DTYPES else " (known: %s)" % ", ".join(DTYPES)
        raise TensorError(
            "input %r: datatype is %r, and the model takes %s%s" % (name, datatype, tensor.datatype, known)
        )
    shape = shape_of(name, given.get("shape"))
    if not fits(shape, tensor.dims):
        raise TensorError("input %r: shape is %s, and the model takes %s" % (name, list(shape), tensor.dims))
    if max_batch_size and not 1 <= shape[0] <= max_batch_size:
        message = "input %r: the batch is %d, and the model takes 1 to %d (max_batch_size)"
        raise TensorError(message % (name, shape[0], max_batch_size))
    if blob is not None:
        return from_binary(name, blob, tensor.datatype, shape)
    if "data" not in given:
        raise TensorError("input %r: data is missing" % name)
    return from_json(name, given["data"], tensor.datatype, shape)


def _outputs(document: Dict[str, Any], version: Version) -> List[Tuple[Tensor, bool]]:
    """Which outputs are asked for, and whether as binary data. Raises Refusal with every problem."""
    problems: List[str] = []
    all_binary = _parameters(document, "the request", problems).get("binary_data_output") is True
    given = document.get("outputs")
    if given is None or given == []:
        given = [{"name": tensor.name} for tensor in version.outputs]
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise Refusal(400, "outputs is a list of objects with a name")
    known = {tensor.name: tensor for tensor in version.outputs}
    wanted: List[Tuple[Tensor, bool]] = []
    for one in given:
        name = one.get("name")
        parameters = _parameters(one, "output %r" % name, problems)
        if "classification" in parameters:
            problems.append("output %r: classification is not supported: sort the values yourself" % name)
        if isinstance(name, str) and name in known:
            wanted.append((known[name], bool(parameters.get("binary_data", all_binary))))
        else:
            problems.append("unknown output %r; the model has: %s" % (name, ", ".join(sorted(known))))
    if problems:
        raise Refusal(400, "; ".join(problems))
    return wanted
