"""A drop-in for ``tflite_runtime.interpreter.Interpreter`` and ``ai_edge_litert.interpreter.Interpreter``.

The same script on both gives the same: methods, argument names, dictionaries, exception types and the first sentence
of messages. Source of the behaviour: tflite/python/interpreter.py and interpreter_wrapper.cc (LiteRT 2.3.0), probed.
Not copied: the crash of ``set_tensor`` on a constant (a ValueError here), messages that pile up from call to call, and
intermediate tensors that read as another tensor's memory (null here unless all tensors are preserved).
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from delegraph import api
from delegraph.compiled import CompiledModel, ModelSession
from delegraph.core.errors import DelegraphError, InvalidModel, UnsupportedOp
from delegraph.core.graph.build import build
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, GraphSet, Op, Shape, Tensor
from delegraph.core.ops.support import op_support


@enum.unique
class OpResolverType(enum.Enum):
    """Names of LiteRT's kernel sets. Accepted for compatibility: results here are always the reference kernels'."""

    AUTO = 0
    BUILTIN = 1
    BUILTIN_REF = 2
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3


_VIEWS_ALIVE = """There is at least 1 reference to internal data
      in the interpreter in the form of a numpy array or slice. Be sure to
      only hold the function returned from tensor() if you are using raw
      data access."""

_NULL = "Tensor data is null. Run allocate_tensors() first"


class _Memory:
    """What views keep alive: as long as one exists, this object has more than one reference."""

    __slots__ = ("arrays",)

    def __init__(self) -> None:
        self.arrays: dict[tuple[int, int], Array] = {}


class _View:
    """Gives an array over another's memory whose base leads to the interpreter's ``_Memory``."""

    __slots__ = ("__array_interface__", "_memory", "_array")

    def __init__(self, memory: _Memory, array: Array) -> None:
        self._memory, self._array = memory, array
        self.__array_interface__ = array.__array_interface__


class _Subgraph:
    """Shapes and readiness of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes: dict[int, Shape] = {t.index: t.shape for t in graph.tensors}
        self.is_ready = False


class Interpreter:
    """Runs a TFLite model with the interface of ``tflite_runtime``'s class of that name. One thread at a time.

    Args as there; besides: devices, as for ``delegraph.compile``.

    Raises:
        ValueError: no model or two, a file that is no model, an argument of the wrong kind, an operator without a
            kernel here.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None = None,
        model_content: bytes | None = None,
        experimental_delegates: Sequence[Any] | None = None,
        num_threads: int | None = None,
        experimental_op_resolver_type: OpResolverType = OpResolverType.AUTO,
        experimental_preserve_all_tensors: bool = False,
        experimental_disable_delegate_clustering: bool = False,
        experimental_default_delegate_latest_features: bool = False,
        experimental_compress_quantization_zero_points: bool = False,
        experimental_disable_delegate_node_fusion: bool = False,
        experimental_force_delegate_node_profiling: bool = False,
        *,
        devices: str | Sequence[str] = "cpu",
    ) -> None:
        self._interpreter = _Memory()
        resolver = getattr(experimental_op_resolver_type, "name", None)
        if not isinstance(experimental_op_resolver_type, enum.Enum) or resolver not in OpResolverType.__members__:
            raise ValueError(f"Unrecognized passed in op resolver type: {experimental_op_resolver_type}")
        if num_threads is not None:
            if not isinstance(num_threads, int):
                raise ValueError("type of num_threads should be int")
            if num_threads < 1:
                raise ValueError("num_threads should >= 1")
        if experimental_delegates:
            raise ValueError(
                "Failed to load delegate: TFLite delegates from shared libraries are not supported by this version; "
                "choose a device with devices=..."
            )
        self._graphs = _read(model_path, model_content)
        self._subgraphs = [_Subgraph(graph) for graph in self._graphs.graphs]
        self._preserve = bool(experimental_preserve_all_tensors)
        self._compress = bool(experimental_compress_quantization_zero_points)
        self._options = {"devices": devices, "threads": num_threads}
        self._source = model_content if model_path is None else model_path
        self._model: CompiledModel | None = None
        self._session: ModelSession | None = None
        _check_builtins(self._graphs)

    # --- the life of a run

    def allocate_tensors(self) -> None:
        """Plans the model for the inputs' current shapes and gives them memory.

        Raises:
            RuntimeError: a custom operator without a kernel here, or shapes that don't fit together.
        """
        self._ensure_safe()
        self._allocate(0)

    def invoke(self) -> None:
        """Runs the main graph on what the inputs hold.

        Raises:
            RuntimeError: the tensors are not allocated, or an operator failed.
        """
        self._ensure_safe()
        self._invoke(0)

    def reset_all_variables(self) -> None:
        """Sets the variable tensors to zero."""
        if self._session is not None:
            self._session.reset_variable_tensors()

    # --- tensors

    def set_tensor(self, tensor_index: int, value: Any) -> None:
        """Copies ``value`` into an input. Nothing is cast.

        Raises:
            ValueError: another dtype or shape, or a tensor that can't be set.
        """
        self._set(tensor_index, value, 0)

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> Array:
        """A copy of a tensor's value.

        Raises:
            ValueError: the index is out of range, or the tensor has no value yet.
        """
        return self._value(tensor_index, subgraph_index).copy()

    def tensor(self, tensor_index: int) -> Callable[[], Array]:
        """A function that gives a view on a tensor's memory. Hold the function, not the view."""
        return lambda: self._view(tensor_index)

    def resize_tensor_input(self, input_index: int, tensor_size: Any, strict: bool = False) -> None:
        """Changes an input's shape; ``allocate_tensors`` has to follow.

        Raises:
            RuntimeError: strict, and a dimension that the model fixes.
        """
        self._ensure_safe()
        shape = tuple(int(n) for n in np.asarray(tensor_size, np.int32).reshape(-1))
        self._resize(input_index, shape, 0, strict=strict)

    # --- descriptions

    def get_input_details(self) -> list[dict[str, Any]]:
        """One dictionary per input, in the file's order."""
        return [self._get_tensor_details(i, 0) for i in self._graphs.main.inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """One dictionary per output, in the file's order."""
        return [self._get_tensor_details(i, 0) for i in self._graphs.main.outputs]

    def get_tensor_details(self, subgraph_index: int = 0) -> list[dict[str, Any]]:
        """One dictionary per tensor with a name.

        Raises:
            ValueError: there is no such subgraph.
        """
        graph = self._subgraph(subgraph_index).graph
        return [self._get_tensor_details(t.index, subgraph_index) for t in graph.tensors if t.name]

    def num_subgraphs(self) -> int:
        """How many subgraphs the model has."""
        return len(self._subgraphs)

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """Signature key → names of inputs and outputs."""
        return {
            key: {"inputs": list(found["inputs"]), "outputs": list(found["outputs"])}
            for key, found in self._get_full_signature_list().items()
        }

    def get_signature_runner(self, signature_key: str | None = None) -> SignatureRunner:
        """A callable for one signature; the key may be left out when the model has just one.

        Raises:
            ValueError: no such signature, or no key and not exactly one signature.
        """
        keys = list(self._graphs.signatures)
        if signature_key is None:
            if len(keys) != 1:
                raise ValueError(
                    f"SignatureDef signature_key is None and model has {len(keys)} Signatures. "
                    "None is only allowed when the model has 1 SignatureDef"
                )
            signature_key = keys[0]
        return SignatureRunner(interpreter=self, signature_key=signature_key)

    @property
    def experimental_compress_quantization_zero_points(self) -> bool:
        """The constructor's argument."""
        return self._compress

    @property
    def placement(self) -> Any:
        """Where each op runs and why (not in TFLite). Raises RuntimeError before ``allocate_tensors``."""
        return self._compiled().placement

    def _get_full_signature_list(self) -> dict[str, dict[str, dict[str, int]]]:
        return {
            key: {"inputs": dict(sorted(s.inputs.items())), "outputs": dict(sorted(s.outputs.items()))}
            for key, s in sorted(self._graphs.signatures.items())
        }

    def _get_op_details(self, op_index: int) -> dict[str, Any]:
        ops = self._graphs.main.ops
        if not 0 <= op_index < len(ops):
            raise ValueError("Invalid node index")
        op = ops[op_index]

        def dtypes(tensors: tuple[int, ...]) -> list[Any]:
            return [_dtype_class(self._graphs.main.tensors[i].dtype) for i in tensors if i != -1]

        return {
            "index": int(op_index),
            "op_name": op.name,
            "inputs": np.array(op.inputs, np.int32),
            "outputs": np.array(op.outputs, np.int32),
            "operand_types": dtypes(op.inputs),
            "result_types": dtypes(op.outputs),
        }

    def _get_ops_details(self) -> list[dict[str, Any]]:
        return [self._get_op_details(i) for i in range(len(self._graphs.main.ops))]

    def _get_tensor_details(self, tensor_index: int, subgraph_index: int) -> dict[str, Any]:
        tensor = self._tensor(tensor_index, subgraph_index)
        shape = self._subgraphs[subgraph_index].shapes[tensor.index]
        return _details(tensor, shape, compress=self._compress)

    # --- the same per subgraph, for signatures

    def _allocate(self, subgraph: int) -> None:
        part = self._subgraph(subgraph)
        if part.is_ready:
            return
        graph = part.graph
        model = self._compiled()
        inputs = [part.shapes[i] for i in graph.inputs]
        try:
            shapes = model.tensor_shapes(subgraph, inputs)
        except DelegraphError as exc:
            raise RuntimeError(str(exc)) from exc
        arrays = self._interpreter.arrays
        part.shapes.update(shapes)
        for i in graph.inputs:
            array = arrays.get((subgraph, i))
            if array is None or array.shape != part.shapes[i]:
                arrays[subgraph, i] = _empty(graph.tensors[i], part.shapes[i])
        for i in {*model.kept(subgraph)} - set(graph.inputs):
            if i in shapes:
                arrays[subgraph, i] = _empty(graph.tensors[i], shapes[i])
            else:
                arrays.pop((subgraph, i), None)
        if subgraph == 0 and self._session is not None:
            self._session.reset_variable_tensors()
        part.is_ready = True

    def _invoke(self, subgraph: int) -> None:
        part = self._subgraph(subgraph)
        if not part.is_ready or self._session is None:
            raise RuntimeError("Invoke called on model that is not ready.")
        arrays = self._interpreter.arrays
        inputs = [arrays[subgraph, i] for i in part.graph.inputs]
        try:
            values = self._session.run(subgraph, inputs, resized=True)
        except DelegraphError as exc:
            raise RuntimeError(str(exc)) from exc
        for i, value in values.items():
            held = arrays.get((subgraph, i))
            if held is not None and held.shape == value.shape and held.dtype == value.dtype:
                np.copyto(held, value)
            else:
                arrays[subgraph, i] = value
            part.shapes[i] = value.shape

    def _resize(self, index: int, shape: Shape, subgraph: int, *, strict: bool) -> None:
        part = self._subgraph(subgraph)
        tensor = self._tensor(index, subgraph)
        if any(n < 0 for n in shape):
            raise RuntimeError("tflite/util.cc BytesRequired number of elements overflowed.")
        if strict and tensor.has_shape_signature or strict:
            signature = tensor.shape_signature
            if len(signature) != len(shape):
                raise RuntimeError(
                    f"Attempting to resize tensor {index} with {len(signature)} dimensions to {len(shape)}. "
                    "ResizeInputTensorStrict only allows mutating unknown dimensions identified by -1."
                )
            for axis, (old, new) in enumerate(zip(signature, shape, strict=True)):
                if old not in (-1, new):
                    raise RuntimeError(
                        f"Attempting to resize dimension {axis} of tensor {index} with value {old} to {new}. "
                        "ResizeInputTensorStrict only allows mutating unknown dimensions identified by -1."
                    )
        if part.shapes[tensor.index] == shape and part.is_ready:
            return
        part.shapes[tensor.index] = shape
        part.is_ready = False

    def _set(self, index: int, value: Any, subgraph: int) -> None:
        tensor = self._tensor(index, subgraph)
        part = self._subgraphs[subgraph]
        array = np.asarray(value)
        if tensor.dtype is DType.STRING:
            array = _as_strings(array)
        elif array.dtype.newbyteorder("=") != tensor.dtype.numpy:
            raise ValueError(
                f"Cannot set tensor: Got value of type {_type_name(array.dtype)} but expected type "
                f"{tensor.dtype.name} for input {index}, name: {tensor.name} "
            )
        shape = part.shapes[tensor.index]
        if array.ndim != len(shape):
            raise ValueError(
                f"Cannot set tensor: Dimension mismatch. Got {array.ndim} but expected {len(shape)} for input {index}."
            )
        for axis, (got, expected) in enumerate(zip(array.shape, shape, strict=True)):
            if got != expected:
                raise ValueError(
                    f"Cannot set tensor: Dimension mismatch. Got {got} but expected {expected} "
                    f"for dimension {axis} of input {index}."
                )
        if not part.is_ready:
            raise ValueError("Cannot set tensor: Tensor is unallocated. Try calling allocate_tensors() first")
        if tensor.is_constant or tensor.index not in part.graph.inputs:
            raise ValueError(f"Cannot set tensor: Tensor {index} is not an input of the model")
        np.copyto(self._interpreter.arrays[subgraph, tensor.index], array)

    def _value(self, index: int, subgraph: int) -> Array:
        tensor = self._tensor(index, subgraph)
        held = self._interpreter.arrays.get((subgraph, tensor.index))
        if held is not None:
            return held
        constant = tensor.constant
        if constant is not None:
            return constant
        raise ValueError(_NULL)

    def _view(self, index: int) -> Array:
        tensor = self._tensor(index, 0)
        value = self._value(index, 0)
        if tensor.dtype is DType.STRING:
            return value
        return np.asarray(_View(self._interpreter, value))

    def _tensor(self, index: int, subgraph: int) -> Tensor:
        tensors = self._subgraph(subgraph).graph.tensors
        index = int(index)
        if not 0 <= index < len(tensors):
            raise ValueError(f"Invalid tensor index {index} exceeds max tensor index {len(tensors) - 1}")
        return tensors[index]

    def _subgraph(self, index: int) -> _Subgraph:
        if not 0 <= index < len(self._subgraphs):
            raise ValueError(
                f"subgraph_index is out of range: {index} for the model, which has {len(self._subgraphs)} subgraphs."
            )
        return self._subgraphs[index]

    def _compiled(self) -> CompiledModel:
        """The compiled model, made at the first allocation."""
        if self._model is None:
            try:
                self._model = api.compile(
                    self._source, preserve_all_tensors=self._preserve, plan=False, **self._options  # type: ignore[arg-type]
                )
            except UnsupportedOp as exc:
                op = exc.op
                raise RuntimeError(
                    f"Encountered unresolved custom op: {op}.\nSee instructions: "
                    f"https://www.tensorflow.org/lite/guide/ops_custom Node ({op}) failed to prepare. {exc}"
                ) from exc
            except InvalidModel as exc:
                raise RuntimeError(str(exc)) from exc
            self._session = self._model.session()
        return self._model

    def _ensure_safe(self) -> None:
        if sys.getrefcount(self._interpreter) != 2:
            raise RuntimeError(_VIEWS_ALIVE)


class SignatureRunner:
    """Calls one signature of an interpreter by name; shares the interpreter's tensors and state."""

    def __init__(self, interpreter: Interpreter | None = None, signature_key: str | None = None) -> None:
        if not interpreter:
            raise ValueError("None interpreter provided.")
        if not signature_key:
            raise ValueError("None signature_key provided.")
        signatures = interpreter._get_full_signature_list()
        if signature_key not in signatures:
            raise ValueError(f'Invalid signature_key provided: "{signature_key}".')
        self._interpreter = interpreter
        self._signature_key = signature_key
        self._inputs = signatures[signature_key]["inputs"]
        self._outputs = signatures[signature_key]["outputs"]
        self._subgraph_index = interpreter._graphs.signatures[signature_key].graph

    def __call__(self, **kwargs: Any) -> dict[str, Array]:
        """Resizes the inputs to the arrays' shapes, runs, and returns copies of the outputs by name.

        Raises:
            ValueError: the inputs' number, names, dtypes or shapes don't fit.
        """
        if len(kwargs) != len(self._inputs):
            raise ValueError(
                "Invalid number of inputs provided for running a SignatureDef, "
                f"expected {len(self._inputs)} vs provided {len(kwargs)}"
            )
        interpreter, subgraph = self._interpreter, self._subgraph_index
        for name, value in kwargs.items():
            if name not in self._inputs:
                raise ValueError(f"Invalid Input name ({name}) for SignatureDef")
            interpreter._resize(self._inputs[name], tuple(value.shape), subgraph, strict=False)
        interpreter._allocate(subgraph)
        for name, value in kwargs.items():
            interpreter._set(self._inputs[name], value, subgraph)
        interpreter._invoke(subgraph)
        return {name: interpreter.get_tensor(i, subgraph) for name, i in self._outputs.items()}

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """Tensor details by input name."""
        return self._details(self._inputs)

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """Tensor details by output name."""
        return self._details(self._outputs)

    def _details(self, names: dict[str, int]) -> dict[str, dict[str, Any]]:
        details = self._interpreter._get_tensor_details
        return {name: details(i, self._subgraph_index) for name, i in names.items()}


def _read(path: str | os.PathLike[str] | None, content: bytes | None) -> GraphSet:
    if path is not None and content:
        raise ValueError("Can't both provide `model_path` and `model_content`")
    if path is None and not content:
        raise ValueError("`model_path` or `model_content` must be specified.")
    if path is None and not isinstance(content, bytes):
        raise TypeError(
            f"CreateWrapperFromBuffer(): incompatible function arguments: model_content is a {type(content).__name__}, "
            "expected bytes"
        )
    try:
        return build(api.load(content if path is None else path))  # type: ignore[arg-type]
    except OSError as exc:
        raise ValueError(f"Could not open '{os.fspath(path or '')}'.The model allocation is null/empty") from exc
    except InvalidModel as exc:
        raise ValueError(f"The model is not a valid Flatbuffer buffer: {exc}") from exc


def _check_builtins(graphs: GraphSet) -> None:
    """As TFLite: a builtin operator without a kernel fails at construction, a custom one at allocation."""
    for graph in graphs.graphs:
        for op in graph.ops:
            problem = None if op.is_custom else op_support(op)
            if problem is not None:
                raise ValueError(_missing_builtin(op, problem.error(op)))


def _missing_builtin(op: Op, error: UnsupportedOp) -> str:
    return f"Didn't find op for builtin opcode '{op.name}' version '{op.version}'. {error}\nRegistration failed.\n"


def _details(tensor: Tensor, shape: Shape, *, compress: bool) -> dict[str, Any]:
    """A tensor as TFLite's dictionaries describe it."""
    q = tensor.quantization
    scales = np.zeros(0, np.float32) if q is None else np.array(q.scales, np.float32)
    zeros = np.zeros(0, np.int32) if q is None else np.array(q.zero_points).astype(np.int32)
    if compress and zeros.size and (zeros == zeros[0]).all():
        zeros = zeros[:1]
    signature = tensor.shape_signature if tensor.has_shape_signature else shape
    return {
        "name": tensor.name,
        "index": tensor.index,
        "shape": np.array(shape, np.int32),
        "shape_signature": np.array(signature, np.int32),
        "dtype": _dtype_class(tensor.dtype),
        "quantization": (float(q.scale), q.zero_point) if q is not None and q.is_per_tensor else (0.0, 0),
        "quantization_parameters": {
            "scales": scales,
            "zero_points": zeros,
            "quantized_dimension": 0 if q is None else q.axis,
            "block_size": 0 if q is None else q.block_size,
        },
        "sparsity_parameters": _sparsity(tensor),
    }


def _sparsity(tensor: Tensor) -> dict[str, Any]:
    table = tensor.sparsity
    if table is None:
        return {}
    found: dict[str, Any] = {"traversal_order": np.array(table.traversal_order, np.int32)}
    if table.block_map is not None:
        found["block_map"] = np.array(table.block_map, np.int32)
    found["dim_metadata"] = [_dimension(dim) for dim in table.dim_metadata or ()]
    return found


def _dimension(dim: Any) -> dict[str, Any]:
    if dim.format == 0:
        return {"format": 0, "dense_size": int(dim.dense_size)}
    return {
        "format": 1,
        "array_segments": np.array(dim.array_segments.values, np.int32),
        "array_indices": np.array(dim.array_indices.values, np.int32),
    }


def _dtype_class(dtype: DType) -> type:
    return np.bytes_ if dtype is DType.STRING else dtype.numpy.type


def _type_name(dtype: np.dtype[Any]) -> str:
    try:
        return DType.of(dtype.newbyteorder("=")).name
    except KeyError:
        return str(dtype).upper()


def _as_strings(array: Array) -> Array:
    found = np.empty(array.shape, object)
    for at, item in np.ndenumerate(array):
        found[at] = item.encode() if isinstance(item, str) else bytes(item)
    return found


def _empty(tensor: Tensor, shape: Shape) -> Array:
    if tensor.dtype is DType.STRING:
        return np.full(shape, b"", object)
    return np.zeros(shape, tensor.dtype.numpy)
