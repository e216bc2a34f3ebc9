"""LiteRT as an oracle: what does it answer for this model and these inputs?

LiteRT crashes on some malformed models and spoils its process's memory with others, so it runs in a child
process and is never imported here. One child serves many requests; after a crash or a timeout another
follows. A crash counts against a model only if a fresh child repeats it.

    with Oracle() as oracle:
        result = oracle.run("model.tflite", [image])
        result.outputs[0]

Needs POSIX and the package `ai-edge-litert` (see `available`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from delegraph.core.errors import DelegraphError, InvalidArgument

Array: TypeAlias = npt.NDArray[Any]
Inputs: TypeAlias = Sequence[npt.ArrayLike] | Mapping[str, npt.ArrayLike]
Model: TypeAlias = bytes | str | Path
Resolver: TypeAlias = Literal["reference", "builtin", "default"]

_LOG_TAIL_BYTES = 4096
_MARK = b"\x1e"  # as in _oracle_child


class OracleError(DelegraphError):
    """LiteRT gave no answer; `stage` is where: start, load, allocate, input, invoke or output."""

    def __init__(self, stage: str, text: str) -> None:
        self.stage = stage
        super().__init__(f"oracle: {stage}: {text}")


class OracleRefused(OracleError):
    """LiteRT raised an exception.

    Example: ``oracle: load: ValueError: The model is not a valid Flatbuffer buffer``

    Attributes: stage, kind (name of the exception's class), message (its whole text).
    """

    def __init__(self, stage: str, kind: str, message: str) -> None:
        self.kind, self.message = kind, message
        super().__init__(stage, f"{kind}: {message}")


class OracleCrashed(OracleError):
    """The process that ran LiteRT died.

    Example: ``oracle: allocate: the process ended with SIGABRT; it said last: Check failed: ...``

    Attributes: stage, signal (None if it exited), exit_code (None if a signal ended it), log (what it said).
    """

    def __init__(self, stage: str, status: int, log: str) -> None:
        self.signal = signal.Signals(-status) if status < 0 else None
        self.exit_code = status if status >= 0 else None
        self.log = log
        how = self.signal.name if self.signal else f"exit code {status}"
        said = f"; it said last: {log.splitlines()[-1]}" if log else ""
        super().__init__(stage, f"the process ended with {how}{said}")


class OracleTimeout(OracleError):
    """The request took longer than it was given.

    Example: ``oracle: invoke: no answer within 120 s``
    """

    def __init__(self, stage: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(stage, f"no answer within {timeout_s:g} s")


class OracleUnavailable(OracleError):
    """ai-edge-litert is not installed."""

    def __init__(self) -> None:
        super().__init__("start", "ai-edge-litert is not installed; pip install 'delegraph[test]'")


@dataclass(frozen=True)
class Job:
    """One model and one set of inputs, with how to run them.

    model: the bytes, or the path (LiteRT then maps the file).
    inputs: in the order of the subgraph's inputs, or by name when a signature is given; never cast.
        Strings are object arrays of bytes.
    resolver: "reference" is BUILTIN_REF, "builtin" the optimised kernels without XNNPACK, "default" with it.
    keep_all: also read every tensor of the subgraph.
    resize: resize inputs to the arrays' shapes first; without it another shape is refused.
    invocations: how often to invoke with these inputs; variables keep their values in between.
    timeout_s: for the whole request, without the start of the process.
    """

    model: Model
    inputs: Inputs
    resolver: Resolver = "reference"
    signature: str | None = None
    keep_all: bool = False
    resize: bool = True
    invocations: int = 1
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        if self.resolver not in get_args(Resolver):
            raise InvalidArgument("resolver", f"one of {', '.join(get_args(Resolver))}", repr(self.resolver))


@dataclass(frozen=True)
class OracleResult:
    """outputs: in the order of the subgraph's (or the signature's) outputs.

    named: the same by name, if a signature was given.
    tensors: by index, if all were kept: those of the model that LiteRT can read after the run.
    """

    outputs: list[Array]
    named: dict[str, Array] = field(default_factory=dict)
    tensors: dict[int, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class TensorDetails:
    """A tensor as LiteRT describes it: -1 in shape_signature is 1 in shape; the dtype of strings is "S"."""

    index: int
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int


@dataclass(frozen=True)
class OpDetails:
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class SignatureDetails:
    inputs: dict[str, TensorDetails]
    outputs: dict[str, TensorDetails]


@dataclass(frozen=True)
class ModelDetails:
    """What LiteRT says of a model before allocation; of subgraph 0, and without tensors that have no name."""

    inputs: list[TensorDetails]
    outputs: list[TensorDetails]
    tensors: dict[int, TensorDetails]
    ops: list[OpDetails]
    signatures: dict[str, SignatureDetails]


def available() -> bool:
    """Whether ai-edge-litert is installed; does not import it."""
    return importlib.util.find_spec("ai_edge_litert") is not None


class Oracle:
    """Asks LiteRT in a child process. For one thread at a time; close it, or use it in a `with`.

    Raises: OracleUnavailable when constructed without ai-edge-litert; another OracleError where LiteRT has no
    answer, after which the oracle goes on working.
    """

    def __init__(self) -> None:
        if not available():
            raise OracleUnavailable
        self._child: _Child | None = None

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child. A later request starts a new one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._child.process.pid if self._child else None

    def run(self, model: Model, inputs: Inputs, **options: Any) -> OracleResult:
        """Runs a model once in a new interpreter; options are those of `Job`."""
        return self.run_job(Job(model, inputs, **options))

    def run_job(self, job: Job) -> OracleResult:
        return self._run(job, [job.inputs], [job.signature])[0]

    def run_sequence(
        self, model: Model, runs: Sequence[Inputs], signatures: Sequence[str] | None = None, **options: Any
    ) -> list[OracleResult]:
        """Runs several inputs in turn in one interpreter, so that variables carry over.

        signatures: one for each of the runs, in place of the option `signature` for all.
        """
        job = Job(model, (), **options)
        return self._run(job, runs, signatures or [job.signature] * len(runs))

    def run_many(self, jobs: Iterable[Job]) -> Iterator[OracleResult | OracleError]:
        """Yields each job's result or error, in order; a crash or a timeout costs only its own job."""
        for job in jobs:
            try:
                yield self.run_job(job)
            except OracleError as error:
                yield error

    def describe(self, model: Model, resolver: Resolver = "reference", timeout_s: float = 120.0) -> ModelDetails:
        """Inputs, outputs, tensors, ops and signatures of a model, which is loaded but not allocated."""
        request = {"do": "describe", "model": _sendable(model), "resolver": resolver, "timeout_s": timeout_s}
        found = self._ask(request)
        return ModelDetails(
            inputs=[_details(each) for each in found["inputs"]],
            outputs=[_details(each) for each in found["outputs"]],
            tensors={each["index"]: _details(each) for each in found["tensors"]},
            ops=[OpDetails(name, tuple(inputs), tuple(outputs)) for name, inputs, outputs in found["ops"]],
            signatures={
                key: SignatureDetails(_named_details(inputs), _named_details(outputs))
                for key, (inputs, outputs) in found["signatures"].items()
            },
        )

    def _run(self, job: Job, runs: Sequence[Inputs], signatures: Sequence[str | None]) -> list[OracleResult]:
        request = {
            "do": "run",
            "model": _sendable(job.model),
            "runs": [(key, _arrays(inputs, key)) for key, inputs in zip(signatures, runs, strict=True)],
            "resolver": job.resolver,
            "keep_all": job.keep_all,
            "resize": job.resize,
            "invocations": job.invocations,
            "timeout_s": job.timeout_s,
        }
        return [OracleResult(**each) for each in self._ask(request)]

    def _ask(self, request: dict[str, Any]) -> Any:
        while True:
            if self._child is None:
                self._child = _Child()
            is_fresh = not self._child.has_served
            try:
                return self._child.ask(request)
            except OracleRefused:
                raise
            except OracleCrashed:
                self.close()
                if is_fresh:
                    raise  # otherwise an earlier model may have spoilt the heap: ask again
            except BaseException:
                self.close()  # a reply may still be on its way
                raise


class _Child:
    """One process of LiteRT and its log: an unnamed file, emptied before each request."""

    def __init__(self) -> None:
        self.has_served = False
        self._log = tempfile.TemporaryFile()
        script = Path(__file__).with_name("_oracle_child.py")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def ask(self, request: dict[str, Any]) -> Any:
        requests, replies = self.process.stdin, self.process.stdout
        assert requests and replies
        if self.has_served:  # before that, the child may still be writing
            os.ftruncate(self._log.fileno(), 0)
            os.lseek(self._log.fileno(), 0, os.SEEK_SET)
        try:
            pickle.dump(request, requests, protocol=5)
            requests.flush()
            reply = pickle.load(replies)
        except (EOFError, OSError, pickle.UnpicklingError):  # the child may die in the middle of a message
            raise self._death(request["timeout_s"]) from None
        self.has_served = True
        if reply[0] == "refused":
            raise OracleRefused(*reply[1:])
        return reply[1]

    def _death(self, timeout_s: float) -> OracleError:
        self._close_pipes()  # so that a child that sent garbage ends, too
        status = self.process.wait()
        log = os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0)
        last = log.rpartition(_MARK)[2] if _MARK in log else b"start\n" + log
        stage, _, said = last.decode(errors="replace").partition("\n")
        if status == -signal.SIGALRM:
            return OracleTimeout(stage, timeout_s)
        return OracleCrashed(stage, status, said.strip()[-_LOG_TAIL_BYTES:])

    def close(self) -> None:
        self.process.kill()
        self._close_pipes()
        self.process.wait()
        self._log.close()

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(OSError):  # what was not sent is not missed
                pipe.close()


def _sendable(model: Model) -> bytes | str:
    return model if isinstance(model, bytes) else os.path.abspath(model)


def _arrays(inputs: Inputs, signature: str | None) -> list[Array] | dict[str, Array]:
    if isinstance(inputs, Mapping) != (signature is not None):
        raise InvalidArgument("inputs", "a mapping with a signature, a sequence without", type(inputs).__name__)
    if isinstance(inputs, Mapping):
        return {name: np.asarray(value) for name, value in inputs.items()}
    return [np.asarray(value) for value in inputs]


def _details(found: Mapping[str, Any]) -> TensorDetails:
    quantization = found["quantization_parameters"]
    return TensorDetails(
        index=int(found["index"]),
        name=found["name"],
        dtype=np.dtype(found["dtype"]),
        shape=tuple(found["shape"].tolist()),
        shape_signature=tuple(found["shape_signature"].tolist()),
        scales=tuple(quantization["scales"].tolist()),
        zero_points=tuple(quantization["zero_points"].tolist()),
        quantized_dimension=int(quantization["quantized_dimension"]),
    )


def _named_details(found: Mapping[str, Any]) -> dict[str, TensorDetails]:
    return {name: _details(each) for name, each in found.items()}


def recipe_inputs(details: Sequence[TensorDetails], seed: int = 0) -> list[Array]:
    """Random inputs for a model, by the recipe behind the digests of the corpus's index (its seed is 0).

    Floats are uniform in [-1, 1), 8- and 16-bit integers in their whole range, wider ones in [0, 10), strings
    all "what a great movie"; unknown dimensions become 1.
    """
    rng = np.random.default_rng(seed)
    return [_recipe_input(rng, each) for each in details]


def _recipe_input(rng: np.random.Generator, details: TensorDetails) -> Array:
    shape, dtype = tuple(max(size, 1) for size in details.shape), details.dtype
    if dtype.kind == "f":
        return rng.uniform(-1, 1, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0, 10, shape).astype(dtype)
    if dtype.kind in "OS":
        return np.full(shape, b"what a great movie", dtype=object)
    raise TypeError(f"input '{details.name}': the recipe has no rule for {dtype}")


def outputs_digest(outputs: Sequence[Array]) -> str:
    """SHA-256 of the bytes of every output in turn (strings: joined with "|"), as in the corpus's index."""
    digest = hashlib.sha256()
    for output in outputs:
        is_text = output.dtype.kind in "OS"
        digest.update(b"|".join(output.reshape(-1).tolist()) if is_text else output.tobytes())
    return digest.hexdigest()
