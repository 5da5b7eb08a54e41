"""Run in an environment with `onnx`: writes a small model repository to the folder named on the command line.

linear/1, linear/2   y = x @ W + b, FP32, any batch; version 2 doubles
pair                 two inputs (INT64), two outputs, with a config.pbtxt (batches of at most 4)
words                BYTES in and out
flags                BOOL in, FP64 out (NaN for false)
"""

import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(folder, graph):
    os.makedirs(folder)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, os.path.join(folder, "model.onnx"))


def info(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def linear(factor):
    weights = numpy_helper.from_array(np.full((3, 2), factor, np.float32), "W")
    bias = numpy_helper.from_array(np.array([0, 1], np.float32), "b")
    nodes = [helper.make_node("MatMul", ["x", "W"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    inputs = [info("x", TensorProto.FLOAT, ["batch", 3])]
    return helper.make_graph(
        nodes, "linear", inputs, [info("y", TensorProto.FLOAT, ["batch", 2])], [weights, bias]
    )


def pair():
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ]
    inputs = [info(name, TensorProto.INT64, ["n", 2]) for name in ("a", "b")]
    return helper.make_graph(
        nodes, "pair", inputs, [info(n, TensorProto.INT64, ["n", 2]) for n in ("sum", "difference")]
    )


def words():
    nodes = [helper.make_node("Identity", ["text"], ["same"])]
    return helper.make_graph(
        nodes, "words", [info("text", TensorProto.STRING, ["n"])], [info("same", TensorProto.STRING, ["n"])]
    )


def flags():
    one = numpy_helper.from_array(np.array([1.0]), "one")
    nan = numpy_helper.from_array(np.array([np.nan]), "nan")
    nodes = [helper.make_node("Where", ["flag", "one", "nan"], ["value"])]
    return helper.make_graph(
        nodes,
        "flags",
        [info("flag", TensorProto.BOOL, ["n"])],
        [info("value", TensorProto.DOUBLE, ["n"])],
        [one, nan],
    )


CONFIG = """
# the usual way to write it
name: "pair"
platform: "onnxruntime_onnx"
max_batch_size: 4
input [
  { name: "a" data_type: TYPE_INT64 dims: [ 2 ] },
  { name: "b" data_type: TYPE_INT64 dims: [ 2 ] }
]
output [ { name: "sum" data_type: TYPE_INT64 dims: [ 2 ] }, { name: "difference" data_type: TYPE_INT64 dims: [ 2 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching { }
"""

if __name__ == "__main__":
    root = sys.argv[1]
    save(os.path.join(root, "linear", "1"), linear(1))
    save(os.path.join(root, "linear", "2"), linear(2))
    with open(os.path.join(root, "linear", "config.pbtxt"), "w") as file:
        file.write("version_policy: { all { } }\n")
    save(os.path.join(root, "pair", "1"), pair())
    with open(os.path.join(root, "pair", "config.pbtxt"), "w") as file:
        file.write(CONFIG)
    save(os.path.join(root, "words", "1"), words())
    save(os.path.join(root, "flags", "1"), flags())
