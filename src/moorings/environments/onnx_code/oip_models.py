"""A model repository of ONNX files: which models and versions there are, and running one of them.

    <repository>/<model>/config.pbtxt          optional
    <repository>/<model>/<version>/model.onnx

A folder that is one model, and a bare `name.onnx`, are taken as well. Knows onnxruntime; nothing of HTTP.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

import onnxruntime
from oip_config import ConfigError, ModelConfig, TensorConfig, read_config
from oip_tensors import OF_ONNX, model_dims

CONFIG = "config.pbtxt"
PLATFORM = "onnxruntime_onnx"
SEARCH_DEPTH = 4


class RepositoryError(Exception):
    """The repository cannot be served; the text has one line for each reason. The user's fault."""


class Tensor:
    """One input or output as callers see it. `dims`: -1 for any size, with the batch in front where there is one;
    `reshape`: the shape (behind the batch) that the model itself has, where it is another one."""

    def __init__(
        self, name: str, datatype: str, dims: List[int], reshape: Optional[List[int]] = None
    ) -> None:
        self.name = name
        self.datatype = datatype
        self.dims = dims
        self.reshape = reshape

    def described(self) -> Dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": self.dims}


class Version:
    """One loaded file."""

    def __init__(self, session: Any, config: ModelConfig) -> None:
        self.max_batch_size = config.max_batch_size
        self._session = session
        self.inputs = _tensors("input", session.get_inputs(), config.inputs, config.max_batch_size)
        self.outputs = _tensors("output", session.get_outputs(), config.outputs, config.max_batch_size)

    def run(self, outputs: List[Tensor], feed: Dict[str, Any]) -> List[Any]:
        """Raises whatever onnxruntime raises. May be called from several threads."""
        for tensor in self.inputs:
            if tensor.reshape is not None:
                feed[tensor.name] = feed[tensor.name].reshape(self._reshaped(tensor, feed[tensor.name]))
        results = self._session.run([tensor.name for tensor in outputs], feed)
        return [self._back(tensor, result) for tensor, result in zip(outputs, results)]

    def _reshaped(self, tensor: Tensor, array: Any) -> List[int]:
        batch = [array.shape[0]] if self.max_batch_size else []
        return batch + list(tensor.reshape or [])

    def _back(self, tensor: Tensor, result: Any) -> Any:
        if tensor.reshape is None:
            return result
        dims = tensor.dims[1:] if self.max_batch_size else tensor.dims
        return result.reshape(([result.shape[0]] if self.max_batch_size else []) + dims)


class Model:
    """One model: the versions that are served, by their number as text."""

    def __init__(self, name: str, versions: Dict[str, Version]) -> None:
        self.name = name
        self.versions = versions
        self.newest = max(versions, key=int)

    def metadata(self, version: str) -> Dict[str, Any]:
        found = self.versions[version]
        return {
            "name": self.name,
            "versions": sorted(self.versions, key=int),
            "platform": PLATFORM,
            "inputs": [tensor.described() for tensor in found.inputs],
            "outputs": [tensor.described() for tensor in found.outputs],
        }


def load_repository(root: str) -> Dict[str, Model]:
    """Every model below `root`, by name. Raises RepositoryError with everything that is wrong."""
    problems: List[str] = []
    models: Dict[str, Model] = {}
    folders, files = find_models(root)
    for name, path in files:
        _collect(models, problems, name, lambda name=name, path=path: _bare(name, path))
    for folder in folders:
        name = os.path.basename(folder)
        _collect(models, problems, name, lambda name=name, folder=folder: _model(name, folder))
    if not models and not problems:
        problems.append("there is no <model>/<version>/model.onnx below the model folder %s" % root)
    if problems:
        raise RepositoryError("the model repository cannot be served:\n" + "\n".join(problems))
    return models


def find_models(root: str) -> Any:
    """(model folders, [(name, bare ONNX file)]) of the first level of folders that has any."""
    level = [root]
    for _ in range(SEARCH_DEPTH):
        for folder in level:
            if _is_model(folder) and folder != root:
                return [folder], []
            inside = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
            models = [path for path in inside if _is_model(path)]
            if models:
                return models, []
            bare = [path for path in inside if path.endswith(".onnx") and os.path.isfile(path)]
            if bare:
                return [], [(os.path.basename(path)[: -len(".onnx")], path) for path in bare]
        level = [
            os.path.join(folder, name)
            for folder in level
            for name in sorted(os.listdir(folder))
            if os.path.isdir(os.path.join(folder, name))
        ]
    return [], []


def _is_model(folder: str) -> bool:
    return os.path.isdir(folder) and (
        os.path.isfile(os.path.join(folder, CONFIG)) or bool(_version_numbers(folder))
    )


def _version_numbers(folder: str) -> List[int]:
    """Folders named by a number without a leading zero."""
    return sorted(
        int(name)
        for name in os.listdir(folder)
        if name.isascii()
        and name.isdigit()
        and name == str(int(name))
        and os.path.isdir(os.path.join(folder, name))
        and os.listdir(os.path.join(folder, name))
    )


def _collect(models: Dict[str, Model], problems: List[str], name: str, make: Any) -> None:
    try:
        models[name] = make()
    except (ConfigError, RepositoryError) as failure:
        problems.append("model %s: %s" % (name, failure))


def _bare(name: str, path: str) -> Model:
    return Model(name, {"1": _load(path, read_config(""))})


def _model(name: str, folder: str) -> Model:
    """Raises ConfigError or RepositoryError."""
    config_path = os.path.join(folder, CONFIG)
    text = ""
    if os.path.isfile(config_path):
        with open(config_path, encoding="utf-8", errors="replace") as handle:
            text = handle.read()
    config = read_config(text)
    if config.name not in ("", name):
        raise ConfigError("config.pbtxt names the model %r, and its folder is %r" % (config.name, name))
    foreign = config.foreign()
    if foreign is not None:
        raise ConfigError("%s: only ONNX models (onnxruntime) are served here" % foreign)
    numbers = _version_numbers(folder)
    if not numbers:
        raise RepositoryError("there is no folder of a version (1, 2, ...) in it")
    versions = {
        str(number): _load(os.path.join(folder, str(number), config.file_name), config)
        for number in config.served(numbers)
    }
    return Model(name, versions)


def _load(path: str, config: ModelConfig) -> Version:
    """Raises ConfigError or RepositoryError."""
    if os.path.isdir(path):  # a model with its weights in files of their own
        path = os.path.join(path, "model.onnx")
    if not os.path.isfile(path):
        folder = os.path.dirname(path)
        held = ", ".join(sorted(os.listdir(folder))) if os.path.isdir(folder) else "nothing"
        raise RepositoryError(
            "%s is not there (its folder holds: %s)" % ("/".join(path.split(os.sep)[-2:]), held)
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    providers = [name for name in onnxruntime.get_available_providers() if name != "AzureExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as failure:  # onnxruntime has a class of its own for each kind of bad file
        raise RepositoryError(
            "%s cannot be loaded: %s" % ("/".join(path.split(os.sep)[-2:]), failure)
        ) from failure
    return Version(session, config)


def _threads() -> int:
    """Threads for one run: the CPUs of this process, shared by the workers of the instance."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    workers = os.environ.get("WORKER_COUNT", "1")
    return max(1, len(os.sched_getaffinity(0)) // max(1, int(workers) if workers.isdigit() else 1))


def _tensors(what: str, found: List[Any], configured: List[TensorConfig], batch: int) -> List[Tensor]:
    """What the file has, checked against what `config.pbtxt` says of it. Raises ConfigError."""
    by_name = {}
    for one in found:
        if one.type not in OF_ONNX:
            raise ConfigError("%s %r has the type %s, which is not served" % (what, one.name, one.type))
        by_name[one.name] = Tensor(one.name, OF_ONNX[one.type], model_dims(one.shape))
    if batch:
        for tensor in by_name.values():
            if tensor.dims[:1] != [-1]:
                message = "max_batch_size is %d, and %s %r has no open first dimension (its shape is %s)"
                raise ConfigError(message % (batch, what, tensor.name, tensor.dims))
    if not configured:
        return list(by_name.values())
    names = sorted(by_name)
    missing = [one.name for one in configured if one.name not in by_name]
    if missing:
        raise ConfigError(
            "config.pbtxt names the %s %r, and the model has: %s" % (what, missing[0], ", ".join(names))
        )
    unnamed = sorted(set(names) - {one.name for one in configured})
    if unnamed and what == "input":
        raise ConfigError("config.pbtxt does not name the input %r of the model" % unnamed[0])
    return [_configured(what, by_name[one.name], one, batch) for one in configured]


def _configured(what: str, tensor: Tensor, config: TensorConfig, batch: int) -> Tensor:
    if config.datatype not in (None, tensor.datatype):
        message = "config.pbtxt says %s for the %s %r, and the model has %s"
        raise ConfigError(message % (config.datatype, what, config.name, tensor.datatype))
    if not config.dims and config.reshape is None:
        return tensor
    dims = ([-1] if batch else []) + config.dims
    own = dims if config.reshape is None else ([-1] if batch else []) + config.reshape
    if len(own) != len(tensor.dims) or any(
        -1 not in pair and pair[0] != pair[1] for pair in zip(own, tensor.dims)
    ):
        message = "config.pbtxt says the shape %s for the %s %r, and the model has %s"
        raise ConfigError(message % (own, what, config.name, tensor.dims))
    return Tensor(tensor.name, tensor.datatype, dims, config.reshape)
