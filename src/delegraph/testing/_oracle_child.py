"""The process that LiteRT runs in: a script for `delegraph.testing.oracle`. Imports nothing of delegraph.

Reads one pickled request from stdin, answers with one pickled reply on stdout, and so on until stdin ends:

    request = {"do": "describe", "model", "resolver", "timeout_s"}
            | {"do": "run", "model", "resolver", "timeout_s", "runs", "keep_all", "resize", "invocations"}
    runs    = [(signature or None, inputs), ...]
    reply   = ("ok", value) | ("refused", stage, exception name, message)

Before each stage it writes MARK, the stage and a newline to stderr, so that the log of a dead child tells
where it died and what it said last. SIGALRM ends a request that takes longer than timeout_s: its default
action works inside native code too, and when the parent is gone.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

MARK = b"\x1e"
RESOLVERS = {
    "reference": OpResolverType.BUILTIN_REF,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "default": OpResolverType.AUTO,
}

stage = "start"


def enter(name: str) -> None:
    global stage
    stage = name
    os.write(2, MARK + name.encode() + b"\n")


def load(request: dict[str, Any]) -> Any:
    enter("load")
    model = request["model"]
    return Interpreter(
        model_path=None if isinstance(model, bytes) else model,
        model_content=model if isinstance(model, bytes) else None,
        num_threads=1,
        experimental_op_resolver_type=RESOLVERS[request["resolver"]],
        experimental_preserve_all_tensors=request.get("keep_all", False),
    )


def run(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs each set of inputs in turn on one interpreter."""
    interpreter = load(request)
    wrapper = interpreter._interpreter  # the public methods don't take a subgraph
    # NOTE: to read the temporaries that allocation adds can crash: some have no shape.
    n_tensors = [wrapper.NumTensors(subgraph) for subgraph in range(wrapper.NumSubgraphs())]
    answers = []
    for key, given in request["runs"]:
        if key is None:
            subgraph, names = 0, None
            input_indices, output_indices = wrapper.InputIndices(), wrapper.OutputIndices()
        else:
            signature = interpreter.get_signature_runner(key)
            definition = signature._signature_def
            subgraph, names = signature._subgraph_index, definition["outputs"].keys()
            input_indices, output_indices = definition["inputs"], definition["outputs"].values()

        enter("allocate")
        inputs = pair(given, input_indices)
        if request["resize"]:
            for index, value in inputs:
                if tuple(wrapper.TensorSize(index, subgraph)) != value.shape:
                    wrapper.ResizeInputTensor(index, np.array(value.shape, np.int32), False, subgraph)
        wrapper.AllocateTensors(subgraph)
        for _ in range(request["invocations"]):
            enter("input")
            for index, value in inputs:
                wrapper.SetTensor(index, value, subgraph)
            enter("invoke")
            wrapper.Invoke(subgraph)
        enter("output")
        outputs = [wrapper.GetTensor(index, subgraph) for index in output_indices]
        named = dict(zip(names, outputs, strict=True)) if names is not None else {}
        tensors = readable_tensors(wrapper, subgraph, n_tensors[subgraph]) if request["keep_all"] else {}
        answers.append({"outputs": outputs, "named": named, "tensors": tensors})
    return answers


def pair(given: Any, indices: Any) -> list[tuple[int, np.ndarray[Any, Any]]]:
    """(tensor index, value) for each input; indices is a dict by name for a signature, else a sequence."""
    if isinstance(indices, dict):
        if set(given) != set(indices):
            raise ValueError(f"expected inputs {sorted(indices)}, found {sorted(given)}")
        return [(indices[name], settable(given[name])) for name in indices]
    if len(given) != len(indices):
        raise ValueError(f"expected {len(indices)} inputs, found {len(given)}")
    return [(index, settable(value)) for index, value in zip(indices, given, strict=True)]


def settable(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # NOTE: of a string in an object array without dimensions, LiteRT 2.3.0 takes the pointer for the text.
    return value.astype(np.bytes_) if value.dtype == object and value.ndim == 0 else value


def readable_tensors(wrapper: Any, subgraph: int, n_tensors: int) -> dict[int, np.ndarray[Any, Any]]:
    # NOTE: GetTensor crashes on tensors without a shape (TensorSize raises) and on resources and variants.
    tensors = {}
    for index in range(n_tensors):
        try:
            wrapper.TensorSize(index, subgraph)
            if wrapper.TensorType(index, subgraph) is not np.object_:
                tensors[index] = wrapper.GetTensor(index, subgraph)
        except (ValueError, RuntimeError):
            pass  # has no memory of its own
    return tensors


def describe(request: dict[str, Any]) -> dict[str, Any]:
    interpreter = load(request)
    runners = {key: interpreter.get_signature_runner(key) for key in interpreter.get_signature_list()}
    ops = interpreter._get_ops_details()
    return {
        "inputs": interpreter.get_input_details(),
        "outputs": interpreter.get_output_details(),
        "tensors": interpreter.get_tensor_details(),
        "ops": [(op["op_name"], op["inputs"].tolist(), op["outputs"].tolist()) for op in ops],
        "signatures": {key: (r.get_input_details(), r.get_output_details()) for key, r in runners.items()},
    }


def answer(request: dict[str, Any]) -> tuple[Any, ...]:
    try:
        return ("ok", run(request) if request["do"] == "run" else describe(request))
    except Exception as exc:
        return ("refused", stage, type(exc).__name__, str(exc))


def main() -> None:
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever LiteRT prints goes to the log
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])
        pickle.dump(answer(request), replies, protocol=5)
        replies.flush()
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
