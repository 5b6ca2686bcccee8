"""Writes ONNX graphs node by node, with the metadata that sherpa-onnx reads."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
FLOAT16 = TensorProto.FLOAT16
INT32 = TensorProto.INT32
INT64 = TensorProto.INT64

# Old enough for every onnxruntime that sherpa-onnx was built with since 2022, new enough for all operators used here.
OPSET = 13
IR_VERSION = 8


class Graph:
    """A graph under construction. Values are named by strings; every method that makes one returns its name."""

    def __init__(self, name):
        self.name = name
        self.nodes, self.inputs, self.outputs, self.initializers = [], [], [], []
        self.count = 0

    def fresh(self, stem):
        self.count += 1
        return f"{stem}_{self.count}"

    def input(self, name, kind, shape):
        """Declares an input; a dimension given as a string is dynamic."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, value, dtype=np.float32):
        name = self.fresh("constant")
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def integers(self, *values):
        """A 1-D tensor of int64: axes, shapes, bounds of slices."""
        return self.constant(values, np.int64)

    def op(self, kind, *inputs, outputs=1, **attributes):
        """Adds a node and returns its output, or the list of them when there are several. Numbers become constants."""
        inputs = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        names = [self.fresh(kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def cast(self, value, kind):
        return self.op("Cast", value, to=kind)

    def slice(self, value, start, end, axis):
        return self.op("Slice", value, self.integers(start), self.integers(end), self.integers(axis))

    def reshape(self, value, *shape):
        """Reshapes; 0 keeps a dimension and -1 is worked out, as in ONNX."""
        return self.op("Reshape", value, self.integers(*shape))

    def dimension(self, value, axis):
        """The size of one axis, as a 1-D int64 tensor of one number."""
        return self.slice(self.op("Shape", value), axis, axis + 1, 0)

    def output(self, value, name, kind, shape):
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def save(self, path, **metadata):
        """Checks the graph and writes it with its metadata, marked as synthetic."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="repartee-synthetic")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, {**{key: str(value) for key, value in metadata.items()}, "synthetic": "1"})
        onnx.checker.check_model(model, full_check=True)
        Path(path).write_bytes(model.SerializeToString(deterministic=True))


def listed(values):
    """A list as sherpa-onnx reads it from metadata: numbers with commas between them."""
    return ",".join(str(value) for value in values)
