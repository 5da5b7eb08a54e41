"""`config.pbtxt` of a model repository: what is read, what is skipped, and where mistakes are."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.environments.onnx import ONNX_CODE


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("oip_config", ONNX_CODE / "oip_config.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONFIG: Any = _load()

USUAL = """
# a comment
name: "de" 'tect'   # in two parts
platform: "onnxruntime_onnx"
max_batch_size : 0x10;
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] reshape { shape: [ 3 ] } } ]
output { name: "y", data_type: TYPE_STRING, dims: 2 dims: 3 }
output < name: "z" >
instance_group [ { count: 1 kind: KIND_CPU } ]
optimization { execution_accelerators { gpu_execution_accelerator : [ { name : "tensorrt"
  parameters { key: "precision_mode" value: "FP16" } } ] } }
parameters: [ { key: "a" value: { string_value: "it's \\"x\\"" } } ]
dynamic_batching { }
model_warmup [] rate: -1.5e3f
"""


def test_what_matters_is_read_and_the_rest_is_skipped() -> None:
    config = CONFIG.read_config(USUAL)
    assert (config.name, config.max_batch_size, config.file_name) == ("detect", 16, "model.onnx")
    assert config.foreign() is None
    (x,) = config.inputs
    assert (x.name, x.datatype, x.dims, x.reshape) == ("x", "FP32", [3, -1], [3])
    assert [(y.name, y.datatype, y.dims) for y in config.outputs] == [("y", "BYTES", [2, 3]), ("z", None, [])]
    parsed = CONFIG.parse(USUAL)
    assert parsed["parameters"][0]["value"][0]["string_value"] == ['it\'s "x"']
    assert (parsed["rate"], parsed["model_warmup"]) == ([-1500.0], [])


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [4]),
        ("version_policy: { latest { num_versions: 2 } }", [3, 4]),
        ("version_policy { all { } }", [1, 3, 4]),
        ("version_policy: { specific: { versions: [3, 1] } }", [1, 3]),
        ("version_policy: { latest: { } }", [4]),
    ],
)
def test_versions(policy: str, served: list[int]) -> None:
    assert CONFIG.read_config(policy).served([1, 4, 3]) == served


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name: "m"\ninput [ { name: "x" }', "line 2: expected ',' or ']', found the end of the file"),
        ('\n\nname "m"', "line 3: expected a value"),
        ("name: {", "line 1: expected the name of a field"),
        ("max_batch_size: -1", "max_batch_size is -1"),
        ('max_batch_size: "4"', "max_batch_size is '4'"),
        ("input: 3", "input is no message"),
        ("input { reshape: 3 }", "reshape is no message"),
        ("input { data_type: TYPE_FP99 }", "TYPE_FP99"),
        ("input { dims: [ -2 ] }", "dims is [-2]"),
        ('default_model_filename: "../x"', "default_model_filename"),
        ('name: "m', "is not understood"),
        ("a: 1x", "no number"),
        ("}", "line 1"),
        ("a { " * 60, "less nesting"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, said: str) -> None:
    with pytest.raises(CONFIG.ConfigError) as caught:
        CONFIG.read_config(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ['platform: "tensorrt_plan"', 'backend: "python"'])
def test_other_platforms_are_foreign(text: str) -> None:
    assert CONFIG.read_config(text).foreign() is not None


def test_a_specific_version_has_to_be_there() -> None:
    config = CONFIG.read_config("version_policy { specific { versions: 7 } }")
    with pytest.raises(CONFIG.ConfigError, match="version 7, which is not there"):
        config.served([1])


@given(st.text(alphabet="ab:{}[]<>,;\"'#\\ \n01-.", max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        CONFIG.read_config(text)
    except CONFIG.ConfigError as refusal:
        assert "config.pbtxt" in str(refusal)
