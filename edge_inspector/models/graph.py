"""Completes a network to the one contract: uint8 picture in, rows or maps out, everything between as ONNX operators.

Owns the nodes added before and behind the exporter's own; all of them are named `inspector/...`. Only operators that
ONNX Runtime, OpenVINO and TensorRT take alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract import INPUT, OUTPUTS, ROWS, Tensor, breach
from ..errors import ModelRefused
from .heads.base import Found, Pixelwise

DTYPES = ("uint8", "float16", "float32", "float64")


def complete(model: Any, found: Found) -> Any:
    """A new ModelProto that keeps the contract of `found.task`; `model` has fixed shapes. Raises ModelRefused."""
    builder = GraphBuilder(model, image=found.image, pixelwise=found.pixelwise)
    found.complete(builder, found)
    made = builder.finish()
    inputs, outputs = _tensors(made.graph.input), _tensors(made.graph.output)
    wrong = breach(found.task, inputs, outputs)
    if wrong:
        raise ModelRefused(f"the head {found.head} does not fit this graph: {wrong}; choose another with --head")
    return made


class GraphBuilder:
    """The Builder of heads/base.py on an ONNX ModelProto, which it changes. Half precision outputs arrive as float32.

    Every added operator's result has its shape inferred at once, so that a head which does not fit fails there.
    """

    def __init__(self, model: Any, *, image: Tensor, pixelwise: Pixelwise) -> None:
        import onnx

        self._onnx = onnx
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._graph = self._model.graph
        self._opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
        names = _names(self._graph)
        self._own = next(own for own in _prefixes() if not any(name.startswith(own) for name in names))
        self._inside = {name: f"{self._own}was/{name}" for name in names if _reserved(name)}
        _rename(self._graph, self._inside)
        self._types: dict[str, Any] = {}
        for value in (*self._graph.value_info, *self._graph.input, *self._graph.output):
            self._types[value.name] = value.type
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._values: dict[str, Any] = {}
        self._nodes: list[Any] = []
        self._ends: list[tuple[str, str]] = []
        self._count = 0
        first = image.shape[1] == 3
        self.size = (int(image.shape[2 if first else 1] or 0), int(image.shape[3 if first else 2] or 0))
        self._begin(image, pixelwise)
        for output in self._graph.output:
            if self.dtype(output.name) in ("float16", "float64", "bfloat16"):
                was = next((n for n, m in self._inside.items() if m == output.name), output.name)
                self._inside[was] = self.add("Cast", output.name, to=onnx.TensorProto.FLOAT)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output; returns its name."""
        return self._append(op, inputs, 1, attributes)[0]

    def split(self, value: str, sizes: Sequence[int], *, axis: int) -> list[str]:
        """Parts of a tensor along an axis."""
        if len(sizes) == 1:
            return [value]
        return self._append("Split", (value, self.constant(list(sizes))), len(sizes), {"axis": axis})

    def top(self, value: str, count: int, *, axis: int) -> tuple[str, str]:
        """The `count` largest along an axis, the largest first, and their int64 indices."""
        best, index = self._append("TopK", (value, self.constant([count])), 2, {"axis": axis})
        return best, index

    def peak(self, value: str, *, axis: int) -> str:
        """The largest along an axis, which goes."""
        if self._opset < 18:
            return self.add("ReduceMax", value, axes=[axis], keepdims=0)
        return self.add("ReduceMax", value, self.constant([axis]), keepdims=0)

    def constant(self, value: NDArray[Any] | float | int | Sequence[int] | Sequence[float]) -> str:
        """A constant; Python integers become int64, floats float32."""
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{self._own}constant/{len(self._constants)}"
            tensor = self._onnx.numpy_helper.from_array(array, name)
            self._graph.initializer.append(tensor)
            self._types[name] = self._onnx.helper.make_tensor_type_proto(tensor.data_type, array.shape)
            self._constants[key], self._values[name] = name, tensor
        return self._constants[key]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, of the original graph or added, all dimensions fixed. Raises ModelRefused."""
        name = self._inside.get(name, name)
        kind = self._types.get(name)
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            raise ModelRefused(f"the shape of {name} cannot be told from the graph; export with fixed shapes, batch 1")
        dims = kind.tensor_type.shape.dim
        if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
            found = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims]
            raise ModelRefused(f"{name} has the open shape {found}; export with fixed shapes, batch 1")
        return tuple(dim.dim_value for dim in dims)

    def dtype(self, name: str) -> str:
        """NumPy's name of a tensor's type; "" where it is not known."""
        kind = self._types.get(self._inside.get(name, name))
        element = kind.tensor_type.elem_type if kind is not None and kind.HasField("tensor_type") else 0
        return element_type(element)

    def feed(self, name: str, value: NDArray[Any]) -> None:
        """Give a further input of the original graph (orig_target_sizes, say) a constant value."""
        dtype, inside = self.dtype(name), self._inside.get(name, name)
        remaining = [each for each in self._graph.input if each.name != inside]
        if len(remaining) == len(self._graph.input):
            raise ModelRefused(f'the graph has no input "{name}" to give a value to')
        del self._graph.input[:]
        self._graph.input.extend(remaining)
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(value.astype(dtype or value.dtype), inside))

    def best(self, boxes: str, scores: str, *others: str, classes: str | None = None, count: int = ROWS) -> list[str]:
        """The best `count` boxes: [1, K, 4], scores [1, K, 1], classes [1, K, 1]; then `others` [1, N, ...] alike.

        boxes: [1, N, 4]. scores: [1, N, C], of which a box's best counts; or, with `classes` ([1, N]), [1, N].
        """
        total = self.shape(boxes)[1]
        count = min(count, total)
        if classes is None:
            scores, classes = self._best_class(scores)
        scores, index = self.top(scores, count, axis=1)
        index = self.add("Reshape", index, self.constant([count]))
        label = self.add("Cast", classes, to=1) if self.dtype(classes) != "float32" else classes
        taken = [self.add("Gather", each, index, axis=1) for each in (boxes, label, *others)]
        single = self.constant([1, count, 1])
        return [taken[0], self.add("Reshape", scores, single), self.add("Reshape", taken[1], single), *taken[2:]]

    def rows(self, boxes: str, scores: str, *, classes: str | None = None, extra: str | None = None) -> None:
        """End it for the task `detect`: the best K boxes over all classes become the output `detections`.

        boxes: float32 [1, N, 4], x1, y1, x2, y2 in input pixels. scores: [1, N, C] probabilities; or, with `classes`
        ([1, N], any number type), [1, N]. extra: [1, N, 1], mask areas in square pixels, the seventh column.
        """
        taken = self.best(boxes, scores, *([extra] if extra else []), classes=classes)
        self.output("detections", self.add("Concat", *taken, axis=2))

    def output(self, name: str, value: str) -> None:
        """End it with a named output of the contract (`scores`, `heatmap`, `score`): cast to float32, as it is."""
        op, attributes = ("Identity", {}) if self.dtype(value) == "float32" else ("Cast", {"to": 1})
        self._ends.append((name, self.add(op, value, **attributes)))

    def finish(self) -> Any:
        """The completed model: without what no output needs any more. Raises ModelRefused for inputs left open."""
        graph, order = self._graph, [name for outputs in OUTPUTS.values() for name in outputs]
        self._ends.sort(key=lambda end: order.index(end[0]))
        _rename_nodes(self._nodes, {value: name for name, value in self._ends})
        nodes = _needed([*graph.node, *self._nodes], {name for name, _ in self._ends})
        used = {name for node in nodes for name in reads(node)}
        inputs = [each for each in graph.input if each.name in used and each.name not in _initial(graph)]
        left = [each.name for each in inputs if each.name != INPUT]
        if left:
            raise ModelRefused(f"the graph has further inputs that nothing gives a value to: {', '.join(left)}")
        outputs = [self._value(name, value) for name, value in self._ends]
        _replace(graph.node, nodes)
        _replace(graph.input, inputs)
        _replace(graph.output, outputs)
        _drop(graph.initializer, lambda each: each.name not in used)
        _replace(graph.value_info, [])
        if graph.quantization_annotation:
            _replace(graph.quantization_annotation, [])
        return self._model

    def _begin(self, image: Tensor, pixelwise: Pixelwise) -> None:
        """From `image` to the network's own input: number type, layout, colour order, (pixel * scale - mean) / std."""
        if image.dtype not in DTYPES:
            raise ModelRefused(f"the input {image} takes neither floats nor bytes; export with a float32 input")
        height, width = self.size
        helper, inside = self._onnx.helper, self._inside.get(image.name, image.name)
        picture = helper.make_tensor_value_info(INPUT, self._onnx.TensorProto.UINT8, [1, height, width, 3])
        _replace(self._graph.input, [picture, *(each for each in self._graph.input if each.name != inside)])
        std = np.array(pixelwise.std, np.float64)
        factor, shift = pixelwise.scale / std, -np.array(pixelwise.mean, np.float64) / std
        value, first = f"{self._own}picture", image.shape[1] == 3
        plain = bool((factor == 1).all() and (shift == 0).all())
        wanted = "float32" if image.dtype == "uint8" and self._is_cast_at_once(inside) else image.dtype
        if plain and wanted == "uint8":
            begin, self._types[value] = helper.make_node("Identity", [INPUT], [value], value), picture.type
        else:  # nothing may stand between the bytes and their cast: TensorRT has no other use for uint8
            kind = self._onnx.TensorProto.FLOAT
            begin = helper.make_node("Cast", [INPUT], [value], value, to=kind)
            self._types[value] = helper.make_tensor_type_proto(kind, [1, height, width, 3])
        self._nodes.append(begin)
        if first:
            value = self.add("Transpose", value, perm=[0, 3, 1, 2])
        if pixelwise.colour == "rgb":
            value = self.add("Gather", value, self.constant([2, 1, 0]), axis=1 if first else 3)
        for op, array, identity in (("Mul", factor, 1), ("Add", shift, 0)):
            if (array != identity).any():
                value = self.add(
                    op, value, self.constant(array.astype(np.float32).reshape([1, 3, 1, 1] if first else [3]))
                )
        if wanted != ("uint8" if plain and wanted == "uint8" else "float32"):
            value = self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(wanted)))
        self._nodes.append(helper.make_node("Identity", [value], [inside], f"{self._own}begin"))
        self._graph_nodes_first()

    def _is_cast_at_once(self, name: str) -> bool:
        """Whether all that reads a tensor makes another type of it: then it may as well come as one."""
        readers = [node for node in self._graph.node if name in reads(node)]
        return bool(readers) and all(node.op_type == "Cast" for node in readers)

    def _graph_nodes_first(self) -> None:
        """What was added so far goes before the network."""
        _replace(self._graph.node, [*self._nodes, *self._graph.node])
        self._nodes = []

    def _best_class(self, scores: str) -> tuple[str, str]:
        """[1, N, C] -> the best score of each and its class, both [1, N]."""
        _, total, classes = self.shape(scores)
        if classes == 1:
            return self.add("Reshape", scores, self.constant([1, total])), self.constant(
                np.zeros((1, total), np.float32)
            )
        best, index = self.top(scores, 1, axis=2)
        flat = self.constant([1, total])
        return self.add("Reshape", best, flat), self.add("Reshape", index, flat)

    def _append(self, op: str, inputs: Sequence[str], count: int, attributes: dict[str, Any]) -> list[str]:
        self._count += 1
        label = f"{self._own}{self._count}/{op}"
        names = [f"{label}/{n}" if count > 1 else label for n in range(count)]
        resolved = [self._inside.get(name, name) for name in inputs]
        node = self._onnx.helper.make_node(op, resolved, names, label, **attributes)
        self._types.update(self._infer(node))
        self._nodes.append(node)
        return names

    def _infer(self, node: Any) -> dict[str, Any]:
        onnx = self._onnx
        schema = onnx.defs.get_schema(node.op_type, self._opset, "")
        known = {name: self._types[name] for name in node.input if name in self._types}
        data = {name: self._values[name] for name in node.input if name in self._values}
        try:
            inferred: dict[str, Any] = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                known,
                data,
                opset_imports=list(self._model.opset_import),
                ir_version=self._model.ir_version,
            )
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
            raise ModelRefused(
                f"this head does not fit this graph: {node.op_type}: {error}; choose with --head"
            ) from None
        return inferred

    def _value(self, name: str, value: str) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, self.shape(value))


def element_type(element: int) -> str:
    """NumPy's name of an ONNX number type; "" for none, bfloat16 and the like as ONNX calls them."""
    import onnx

    try:
        name = str(onnx.TensorProto.DataType.Name(element)).lower()
    except ValueError:
        return ""
    return {"float": "float32", "double": "float64", "undefined": "", "string": "str"}.get(name, name)


def tensor(value: Any) -> Tensor:
    """A ValueInfoProto in this program's words; the shape is () where it is not known at all."""
    kind = value.type.tensor_type
    dims = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in kind.shape.dim)
    return Tensor(value.name, element_type(kind.elem_type), dims)


def _tensors(values: Any) -> list[Tensor]:
    return [tensor(value) for value in values]


def _reserved(name: str) -> bool:
    return name == INPUT or any(name in outputs for outputs in OUTPUTS.values())


def _prefixes() -> Iterator[str]:
    """For the names of added nodes: such as no name of the original begins with."""
    yield "inspector/"
    yield from (f"inspector{n}/" for n in range(2, 1000))


def bodies(node: Any) -> Iterator[Any]:
    """The graphs within a node (the branches of an If, the body of a Loop)."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _names(graph: Any) -> set[str]:
    """Every tensor's name, those within nodes as well."""
    found = {each.name for each in (*graph.input, *graph.output, *graph.initializer, *graph.value_info)}
    for node in graph.node:
        found.update((*node.input, *node.output))
        for body in bodies(node):
            found |= _names(body)
    return found


def reads(node: Any) -> set[str]:
    """What a node reads, its inner graphs included."""
    found = set(node.input)
    for body in bodies(node):
        found.update(each.name for each in body.output)
        for inner in body.node:
            found |= reads(inner)
    return found - {""}


def _rename(graph: Any, names: dict[str, str]) -> None:
    if not names:
        return
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    _rename_nodes(graph.node, names)


def _rename_nodes(nodes: Any, names: dict[str, str]) -> None:
    for node in nodes:
        for values in (node.input, node.output):
            for n, name in enumerate(values):
                if name in names:
                    values[n] = names[name]
        for body in bodies(node):
            _rename(body, names)


def _needed(nodes: list[Any], wanted: set[str]) -> list[Any]:
    """The nodes that lead to the tensors named, in their order."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted |= reads(node)
            kept.append(node)
    return kept[::-1]


def _initial(graph: Any) -> set[str]:
    return {each.name for each in graph.initializer} | {each.values.name for each in graph.sparse_initializer}


def _drop(field: Any, unwanted: Callable[[Any], bool]) -> None:
    for n in reversed(range(len(field))):
        if unwanted(field[n]):
            del field[n]


def _replace(field: Any, values: Sequence[Any]) -> None:
    kept = list(values)  # they may lie in the field itself
    copies = [type(each).FromString(each.SerializeToString()) for each in kept]
    del field[:]
    field.extend(copies)
