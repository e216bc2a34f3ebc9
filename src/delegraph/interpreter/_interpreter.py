"""The Interpreter class: TFLite's life of a run on top of a CompiledModel."""

from __future__ import annotations

import enum
import operator
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from delegraph import api, registry
from delegraph.compiled import CompiledModel, ModelSession
from delegraph.core.errors import DelegraphError, InvalidModel, UnsupportedOp
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import GraphSet
from delegraph.core.model.model import Model
from delegraph.core.ops.support import op_support
from delegraph.interpreter._delegates import refused
from delegraph.interpreter._details import op_details, tensor_details
from delegraph.interpreter._signature import SignatureRunner
from delegraph.interpreter._tensors import Memory
from delegraph.request import Wishes

_VIEWS_ALIVE = """There is at least 1 reference to internal data
      in the interpreter in the form of a numpy array or slice. Be sure to
      only hold the function returned from tensor() if you are using raw
      data access."""


@enum.unique
class OpResolverType(enum.Enum):
    """Names of LiteRT's kernel sets. Accepted for compatibility: results here are always the reference kernels'."""

    AUTO = 0
    BUILTIN = 1
    BUILTIN_REF = 2
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3


class Interpreter:
    """Runs a TFLite model with the interface of ``tflite_runtime``'s class of that name. One thread at a time.

    Args as there; besides: devices, as for ``delegraph.compile``. num_threads and most of what is experimental is
    checked and has no effect, as docs/interpreter.md says.

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
        if experimental_op_resolver_type not in frozenset(OpResolverType):
            raise ValueError(f"Unrecognized passed in op resolver type: {experimental_op_resolver_type}")
        if num_threads is not None:
            if not isinstance(num_threads, int):
                raise ValueError("type of num_threads should be int")
            if num_threads < 1:
                raise ValueError("num_threads should >= 1")
        self._loaded = _load(model_path, model_content)
        self._graphs = _build(self._loaded)
        if experimental_delegates:
            raise refused(experimental_delegates)
        self._wishes = Wishes(devices)
        registry.resolve(devices)
        self._preserve = bool(experimental_preserve_all_tensors)
        self._compress = bool(experimental_compress_quantization_zero_points)
        self._model: CompiledModel | None = None
        self._session: ModelSession | None = None
        self._interpreter = Memory(self._graphs.graphs)

    # --- the life of a run

    def allocate_tensors(self) -> None:
        """Plans the model for the inputs' current shapes and gives them memory.

        Raises:
            RuntimeError: a view is alive, a custom operator without a kernel here, or shapes that don't fit together.
        """
        self._ensure_safe()
        self._allocate(0)

    def invoke(self) -> None:
        """Runs the main graph on what the inputs hold.

        Raises:
            RuntimeError: a view is alive, the tensors are not allocated, or an operator failed.
        """
        self._ensure_safe()
        self._invoke(0)

    def reset_all_variables(self) -> None:
        """Sets the variable tensors to zero; resource variables stay.

        Raises:
            RuntimeError: there are some, and they are not allocated.
        """
        for tensors in self._interpreter.subgraphs:
            tensors.reset_variables()
        if self._session is not None:
            self._session.reset_variable_tensors()

    # --- tensors

    def set_tensor(self, tensor_index: int, value: Any) -> None:
        """Copies ``value`` into an input. Nothing is cast.

        Raises:
            ValueError: another dtype or shape, or a tensor that can't be set.
        """
        self._interpreter.subgraph(0).write(_whole("SetTensor", tensor_index), value)

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> Any:
        """A copy of a tensor's value.

        Raises:
            ValueError: the index is out of range, or the tensor has no value yet.
        """
        index, subgraph = _whole("GetTensor", tensor_index), _whole("GetTensor", subgraph_index)
        return self._interpreter.subgraph(subgraph).copy(index)

    def tensor(self, tensor_index: int) -> Callable[[], Any]:
        """A function that gives a view on a tensor's memory. Hold the function, not the view."""
        return lambda: self._interpreter.view(_whole("tensor", tensor_index))

    def resize_tensor_input(self, input_index: int, tensor_size: Any, strict: bool = False) -> None:
        """Changes an input's shape; ``allocate_tensors`` has to follow.

        Raises:
            RuntimeError: a view is alive, or a shape that the tensor can't take; strict, one that the model fixes.
        """
        self._ensure_safe()
        size = np.array(tensor_size, np.int32)
        index = _whole("ResizeInputTensor", input_index)
        if size.ndim != 1:
            raise ValueError(f"Shape should be 1D instead of {size.ndim}.")
        self._interpreter.subgraph(0).resize(index, tuple(size.tolist()), strict=bool(strict))

    # --- descriptions

    def get_input_details(self) -> list[dict[str, Any]]:
        """One dictionary per input, in the file's order."""
        return [self._get_tensor_details(i, 0) for i in self._graphs.main.inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """One dictionary per output, in the file's order."""
        return [self._get_tensor_details(i, 0) for i in self._graphs.main.outputs]

    def get_tensor_details(self, subgraph_index: int = 0) -> list[dict[str, Any]]:
        """One dictionary per tensor of the file.

        Raises:
            ValueError: there is no such subgraph.
        """
        count = self.num_subgraphs()
        if not 0 <= subgraph_index < count:
            raise ValueError(
                f"subgraph_index is out of range: {subgraph_index} for the model, which has {count} subgraphs."
            )
        tensors = self._graphs.graphs[subgraph_index].tensors
        return [self._get_tensor_details(t.index, subgraph_index) for t in tensors]

    def num_subgraphs(self) -> int:
        """How many subgraphs the model has."""
        return len(self._graphs.graphs)

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
        """Where each op runs and why (not in TFLite). Plans the model if need be."""
        return self._compiled().placement

    # --- with an underscore, but used by tools

    def _get_full_signature_list(self) -> dict[str, dict[str, dict[str, int]]]:
        return {
            key: {"inputs": dict(sorted(s.inputs.items())), "outputs": dict(sorted(s.outputs.items()))}
            for key, s in self._graphs.signatures.items()
        }

    def _get_op_details(self, op_index: int) -> dict[str, Any]:
        graph = self._graphs.main
        if not 0 <= op_index < len(graph.ops):
            raise ValueError("Invalid node index")
        return op_details(graph, graph.ops[op_index], int(op_index))

    def _get_ops_details(self) -> list[dict[str, Any]]:
        return [self._get_op_details(i) for i in range(len(self._graphs.main.ops))]

    def _get_tensor_details(self, tensor_index: int, subgraph_index: int) -> dict[str, Any]:
        subgraph = int(subgraph_index)
        tensors = self._interpreter.subgraph(subgraph)
        tensor = tensors.find(int(tensor_index))
        table = self._loaded.subgraphs[subgraph].tensors[tensor.index]
        return tensor_details(tensors.graph, tensor, table, tensors.shapes[tensor.index], compress=self._compress)

    # --- the same for every subgraph, as signatures need it

    def _subgraph_of(self, signature_key: str) -> int:
        return self._graphs.signatures[signature_key].graph

    def _allocate(self, subgraph: int) -> None:
        tensors = self._interpreter.subgraph(subgraph)
        if tensors.is_ready:
            return
        model = self._compiled()
        try:
            shapes = model.tensor_shapes(subgraph, [tensors.shapes[i] for i in tensors.graph.inputs])
        except DelegraphError as exc:
            raise RuntimeError(str(exc)) from exc
        tensors.allocate(shapes, model.kept(subgraph))

    def _invoke(self, subgraph: int) -> None:
        tensors, session = self._interpreter.subgraph(subgraph), self._session
        if not tensors.is_ready or session is None:
            raise RuntimeError("Invoke called on model that is not ready.")
        for i in tensors.variables:
            session.set_variable(subgraph, i, tensors.values[i])
        try:
            values = session.run(subgraph, [tensors.values[i] for i in tensors.graph.inputs], resized=True)
        except DelegraphError as exc:
            raise RuntimeError(str(exc)) from exc
        tensors.update(values)
        tensors.update({i: session.variable(subgraph, i) for i in tensors.variables})

    def _compiled(self) -> CompiledModel:
        """The compiled model, made at the first allocation."""
        if self._model is None:
            try:
                self._model = api.compile_graphs(
                    self._graphs, self._wishes, preserve_all_tensors=self._preserve, plan=False
                )
            except UnsupportedOp as exc:
                raise RuntimeError(_unresolved(exc)) from exc
            except DelegraphError as exc:
                raise RuntimeError(str(exc)) from exc
            self._session = self._model.session()
        return self._model

    def _ensure_safe(self) -> None:
        if sys.getrefcount(self._interpreter) != 2:
            raise RuntimeError(_VIEWS_ALIVE)


def _load(path: str | os.PathLike[str] | None, content: bytes | None) -> Model:
    if not path and not content:
        raise ValueError("`model_path` or `model_content` must be specified.")
    if path and content:
        raise ValueError("Can't both provide `model_path` and `model_content`")
    if not path and not isinstance(content, bytes):
        raise TypeError(
            "CreateWrapperFromBuffer(): incompatible function arguments. The following argument types are supported: "
            f"bytes; invoked with {type(content).__name__}"
        )
    try:
        return api.load(os.fsdecode(path) if path else cast(bytes, content))  # a path may be bytes, as in LiteRT
    except OSError as exc:
        raise ValueError(f"Could not open '{os.fsdecode(path or '')}'.The model allocation is null/empty") from exc
    except InvalidModel as exc:
        raise ValueError(f"The model is not a valid Flatbuffer buffer: {exc}") from exc


def _build(model: Model) -> GraphSet:
    """The graphs. As in TFLite, a builtin operator without a kernel fails here, a custom one at allocation."""
    try:
        graphs = build(model)
    except InvalidModel as exc:
        raise ValueError(str(exc)) from exc
    for graph in graphs.graphs:
        for op in graph.ops:
            problem = None if op.is_custom else op_support(op)
            if problem is not None:
                raise ValueError(
                    f"Didn't find op for builtin opcode '{op.name}' version '{op.version}'. "
                    f"{problem.error(op)}\nRegistration failed.\n"
                )
    return graphs


def _unresolved(error: UnsupportedOp) -> str:
    return (
        f"Encountered unresolved custom op: {error.op}.\nSee instructions: "
        f"https://www.tensorflow.org/lite/guide/ops_custom Node ({error.op}) failed to prepare. {error}"
    )


def _whole(function: str, value: Any) -> int:
    """A tensor's or subgraph's number; floats and text are none. Raises TypeError as LiteRT's binding does."""
    try:
        index = operator.index(value)
        if not -(2**31) <= index < 2**31:
            raise TypeError(f"{index} has more than 32 bits")
    except TypeError as exc:
        raise TypeError(
            f"{function}(): incompatible function arguments. The following argument types are supported: "
            f"int; invoked with {value!r}"
        ) from exc
    return index
