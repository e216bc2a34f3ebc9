"""Trains the demo's digit classifier and writes it as two TFLite models: ``python -m tools.train_digits``.

Makes, in src/delegraph/demo: digits_float.tflite, digits_int8.tflite (the same network, quantized after training) and
digits.npz (a few images that training never saw). Needs scikit-learn, for the images; takes well under two minutes.

The data: "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49 (CC BY 4.0), as scikit-learn brings it: 1797 images of 8x8 pixels in 0..16.

The same files come out every time. Sums in other orders (another CPU, another BLAS) would change the last bits of the
weights, so training runs in float64 and its result is rounded to multiples of 1/4096.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Quantization
from delegraph.core.model.model import Model
from delegraph.core.model.schema_table import ENUMS
from delegraph.core.model.table import Table
from delegraph.core.model.writer import write_file
from delegraph.core.ops.cases import tensor_table, to_bytes

Array = npt.NDArray[Any]

OUT = Path(__file__).resolve().parents[1] / "src" / "delegraph" / "demo"
SEED = 7
N_TEST = 449  # a quarter
PER_DIGIT = 2  # images of each digit that the demo brings along
EPOCHS, BATCH, RATE = 15, 32, 3e-3
GRID = 4096  # weights are rounded to multiples of 1 / GRID

# --- the data -----------------------------------------------------------------------------------------------------


class Digits(NamedTuple):
    """Images uint8 [n, 8, 8] in 0..16 and the digits that they show, int64 [n]."""

    images: Array
    labels: Array


def load_digits() -> tuple[Digits, Digits]:
    """The images to train with and those held out, always the same ones."""
    from sklearn import datasets

    found = datasets.load_digits()
    order = np.random.default_rng(SEED).permutation(len(found.target))
    images, labels = found.images.astype(np.uint8)[order], found.target.astype(np.int64)[order]
    return Digits(images[N_TEST:], labels[N_TEST:]), Digits(images[:N_TEST], labels[:N_TEST])


def samples(held_out: Digits) -> Digits:
    """The first held-out images of each digit, in turn: whatever a model makes of them."""
    found = [np.flatnonzero(held_out.labels == digit)[:PER_DIGIT] for digit in range(10)]
    chosen = np.stack(found, axis=1).reshape(-1)
    return Digits(held_out.images[chosen], held_out.labels[chosen])


def scaled(images: Array) -> Array:
    """Images as the network takes them: [n, 8, 8, 1] in 0..1."""
    return (images / 16.0)[..., None]


# --- a small network and its gradients ----------------------------------------------------------------------------


@dataclass
class Parameter:
    """A trained array with Adam's running means."""

    value: Array
    gradient: Array = field(init=False)
    mean: Array = field(init=False)
    square: Array = field(init=False)

    def __post_init__(self) -> None:
        self.gradient, self.mean, self.square = (np.zeros_like(self.value) for _ in range(3))

    def step(self, t: int, rate: float) -> None:
        """One step of Adam. Source: Kingma and Ba, 2015, algorithm 1."""
        self.mean += 0.1 * (self.gradient - self.mean)
        self.square += 0.001 * (self.gradient**2 - self.square)
        mean, square = self.mean / (1 - 0.9**t), self.square / (1 - 0.999**t)
        self.value -= rate * mean / (np.sqrt(square) + 1e-8)


class Layer(Protocol):
    @property
    def parameters(self) -> Sequence[Parameter]: ...
    def forward(self, x: Array) -> Array: ...
    def backward(self, gradient: Array) -> Array:
        """The gradient for the last ``forward``'s input; sets those of the parameters."""


class Dense:
    """x @ w + b along the last axis: a fully connected layer, or a convolution of 1x1."""

    def __init__(self, rng: np.random.Generator, n_in: int, n_out: int) -> None:
        self.w = Parameter(rng.normal(0, math.sqrt(2 / n_in), (n_in, n_out)))
        self.b = Parameter(np.zeros(n_out))

    @property
    def parameters(self) -> Sequence[Parameter]:
        return self.w, self.b

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(x @ self.w.value + self.b.value)

    def backward(self, gradient: Array) -> Array:
        flat = gradient.reshape(-1, gradient.shape[-1])
        self.w.gradient, self.b.gradient = self.x.reshape(-1, self.x.shape[-1]).T @ flat, flat.sum(0)
        return np.asarray(gradient @ self.w.value.T)


class Patches:
    """[n, h, w, c] -> the 3x3 neighbours of each pixel [n, h, w, 9, c], zeros outside."""

    parameters = ()

    def forward(self, x: Array) -> Array:
        h, w = x.shape[1:3]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return np.stack([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=3)

    def backward(self, gradient: Array) -> Array:
        n, h, w, _, c = gradient.shape
        padded = np.zeros((n, h + 2, w + 2, c))
        for tap in range(9):
            i, j = divmod(tap, 3)
            padded[:, i : i + h, j : j + w] += gradient[:, :, :, tap]
        return padded[:, 1:-1, 1:-1]


class Depthwise:
    """Patches [..., 9, c] -> one sum for each channel [..., c]."""

    def __init__(self, rng: np.random.Generator, channels: int) -> None:
        self.w = Parameter(rng.normal(0, math.sqrt(2 / 9), (9, channels)))
        self.b = Parameter(np.zeros(channels))

    @property
    def parameters(self) -> Sequence[Parameter]:
        return self.w, self.b

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray((x * self.w.value).sum(-2) + self.b.value)

    def backward(self, gradient: Array) -> Array:
        self.w.gradient = (self.x * gradient[..., None, :]).sum((0, 1, 2))
        self.b.gradient = gradient.sum((0, 1, 2))
        return gradient[..., None, :] * self.w.value


class Relu:
    parameters = ()

    def forward(self, x: Array) -> Array:
        self.is_positive = x > 0
        return np.maximum(x, 0)

    def backward(self, gradient: Array) -> Array:
        return gradient * self.is_positive


class MaxPool:
    """The largest of each 2x2 pixels; the first of equals takes the gradient."""

    parameters = ()

    def forward(self, x: Array) -> Array:
        n, h, w, c = self.shape = x.shape
        blocks = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h // 2, w // 2, c, 4)
        self.largest = blocks.argmax(-1)[..., None]
        return np.take_along_axis(blocks, self.largest, -1)[..., 0]

    def backward(self, gradient: Array) -> Array:
        n, h, w, c = self.shape
        blocks = np.zeros((*gradient.shape, 4))
        np.put_along_axis(blocks, self.largest, gradient[..., None], -1)
        return blocks.reshape(n, h // 2, w // 2, c, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(self.shape)


class Flatten:
    """Every axis but ``keep`` leading ones into one."""

    parameters = ()

    def __init__(self, keep: int) -> None:
        self.keep = keep

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(*x.shape[: self.keep], -1)

    def backward(self, gradient: Array) -> Array:
        return gradient.reshape(self.shape)


class Network:
    """Convolution, depthwise separable convolution, pool, dense: 8x8 pixels to ten scores (no softmax)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.conv = Dense(rng, 9, 32)
        self.depthwise = Depthwise(rng, 32)
        self.pointwise = Dense(rng, 32, 32)
        self.dense = Dense(rng, 512, 10)
        first: list[Layer] = [Patches(), Flatten(3), self.conv, Relu()]
        second: list[Layer] = [Patches(), self.depthwise, Relu(), self.pointwise, Relu(), MaxPool()]
        self.layers: list[Layer] = [*first, *second, Flatten(1), self.dense]

    def forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, gradient: Array) -> None:
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)

    @property
    def parameters(self) -> list[Parameter]:
        return [parameter for layer in self.layers for parameter in layer.parameters]

    def stages(self, x: Array) -> dict[str, Array]:
        """The values that the quantized model stores, by the name of their tensor."""
        found = {"image": x}
        names: dict[object, str] = {
            self.conv: "conv",
            self.depthwise: "depthwise",
            self.pointwise: "pointwise",
            self.dense: "logits",
        }
        name = ""
        for layer in self.layers:
            x = layer.forward(x)
            name = names.get(layer, name)
            if name and (isinstance(layer, Relu) or layer is self.dense):
                found[name] = x
        return found


def train(data: Digits) -> Network:
    """Minimizes the cross-entropy with Adam and a falling rate, then rounds the weights."""
    rng = np.random.default_rng(SEED)
    network = Network(rng)
    x, labels = scaled(data.images), data.labels
    n_steps = EPOCHS * (len(x) // BATCH)
    for t, chosen in enumerate(batches(rng, len(x)), 1):
        scores = network.forward(x[chosen])
        gradient = softmax(scores)
        gradient[np.arange(len(chosen)), labels[chosen]] -= 1
        network.backward(gradient / len(chosen))
        for parameter in network.parameters:
            parameter.step(t, RATE * 0.5 * (1 + math.cos(math.pi * t / n_steps)))
    for parameter in network.parameters:
        parameter.value = np.rint(parameter.value * GRID) / GRID
    return network


def batches(rng: np.random.Generator, n: int) -> Iterator[Array]:
    for _ in range(EPOCHS):
        yield from rng.permutation(n)[: n // BATCH * BATCH].reshape(-1, BATCH)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


# --- the models ---------------------------------------------------------------------------------------------------

CONV = {"padding": 0, "stride_w": 1, "stride_h": 1, "fused_activation_function": 1}  # SAME, with RELU
DEPTHWISE = {**CONV, "depth_multiplier": 1}
POOL = {"padding": 1, "stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2}
# The version with int8 kernels. Source: tflite/tools/versioning/op_version.cc, GetBuiltinOperatorVersion.
INT8_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "MAX_POOL_2D": 2, "FULLY_CONNECTED": 4, "SOFTMAX": 2}
SOFTMAX_OUTPUT = Quantization.per_tensor(1 / 256, -128)
DESCRIPTION = (
    "Handwritten digits of 8x8 pixels, {kind}. Trained by delegraph's tools/train_digits.py on 'Optical Recognition of "
    "Handwritten Digits', E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0"
)


@dataclass
class Writer:
    """Collects the tables of a model of one straight chain of ops; the first dimension, the batch, may vary.

    ranges: for an int8 model, how each activation is quantized; without, the model is float32.
    """

    ranges: Mapping[str, Quantization] | None = None
    tensors: list[Table] = field(default_factory=list)
    buffers: list[Table] = field(default_factory=lambda: [Table("Buffer")])
    codes: list[Table] = field(default_factory=list)
    operators: list[Table] = field(default_factory=list)
    quantizations: list[Quantization | None] = field(default_factory=list)

    def constant(self, name: str, data: Array, quantization: Quantization | None = None) -> int:
        dtype = DType.of(data.dtype)
        self.buffers.append(Table("Buffer", data=to_bytes(data, dtype)))
        return self._add(tensor_table(name, dtype, data.shape, quantization, len(self.buffers) - 1), quantization)

    def activation(self, name: str, shape: Sequence[int], quantization: Quantization | None = None) -> int:
        """quantization: where it isn't the one of the ranges."""
        if self.ranges is not None and quantization is None:
            quantization = self.ranges[name]
        dtype = DType.FLOAT32 if self.ranges is None else DType.INT8
        table = tensor_table(name, dtype, (1, *shape), quantization if self.ranges is not None else None, 0)
        return self._add(table.replace(shape_signature=(-1, *shape)), quantization)

    def _add(self, table: Table, quantization: Quantization | None) -> int:
        self.tensors.append(table)
        self.quantizations.append(quantization)
        return len(self.tensors) - 1

    def weights(self, name: str, x: int, w: Array, bias: Array, axis: int | None) -> tuple[int, int]:
        """Weights and bias of an op on tensor x; quantized to int8 along an axis, or as a whole (axis None)."""
        if self.ranges is None:
            return (
                self.constant(f"{name}/weights", w.astype(np.float32)),
                self.constant(f"{name}/bias", bias.astype(np.float32)),
            )
        others = None if axis is None else tuple(i for i in range(w.ndim) if i != axis)
        scales = np.asarray(np.abs(w).max(others, keepdims=True) / 127, np.float32)
        q = np.clip(np.rint(w / scales), -127, 127).astype(np.int8)
        x_quantization = self.quantizations[x]
        assert x_quantization is not None
        of_weights = Quantization.per_channel(scales.reshape(-1), axis or 0)
        of_bias = Quantization.per_channel(x_quantization.scale * of_weights.scales)
        q_bias = np.rint(bias / of_bias.scales.astype(np.float64)).astype(np.int32)
        return self.constant(f"{name}/weights", q, of_weights), self.constant(f"{name}/bias", q_bias, of_bias)

    def op(self, name: str, inputs: Sequence[int], output: int, options: str, **fields: Any) -> int:
        code = ENUMS["BuiltinOperator"][name]
        version = 1 if self.ranges is None else INT8_VERSIONS.get(name, 1)
        table = Table("OperatorCode", deprecated_builtin_code=code, builtin_code=code, version=version)
        if table not in self.codes:
            self.codes.append(table)
        self.operators.append(
            Table(
                "Operator",
                opcode_index=self.codes.index(table),
                inputs=inputs,
                outputs=[output],
                builtin_options=Table(options, **fields),
            )
        )
        return output

    def model(self, x: int, y: int, description: str) -> Model:
        subgraph = Table(
            "SubGraph", name="main", tensors=self.tensors, inputs=[x], outputs=[y], operators=self.operators
        )
        signature = Table(
            "SignatureDef",
            signature_key="serving_default",
            inputs=(Table("TensorMap", name="image", tensor_index=x),),
            outputs=(Table("TensorMap", name="scores", tensor_index=y),),
        )
        root = Table(
            "Model",
            version=3,
            description=description,
            operator_codes=self.codes,
            subgraphs=(subgraph,),
            buffers=self.buffers,
            signature_defs=(signature,),
        )
        return Model(root, "digits")


def convert(network: Network, ranges: Mapping[str, Quantization] | None = None) -> Model:
    """The network as a model: float32, or int8 with these quantizations of its activations."""
    to = Writer(ranges)
    image = x = to.activation("image", (8, 8, 1))

    w = network.conv.w.value.T.reshape(32, 3, 3, 1)
    constants = to.weights("conv", x, w, network.conv.b.value, axis=0)
    x = to.op("CONV_2D", (x, *constants), to.activation("conv", (8, 8, 32)), "Conv2DOptions", **CONV)
    w = network.depthwise.w.value.reshape(1, 3, 3, 32)
    constants = to.weights("depthwise", x, w, network.depthwise.b.value, axis=3)
    y = to.activation("depthwise", (8, 8, 32))
    x = to.op("DEPTHWISE_CONV_2D", (x, *constants), y, "DepthwiseConv2DOptions", **DEPTHWISE)
    w = network.pointwise.w.value.T.reshape(32, 1, 1, 32)
    constants = to.weights("pointwise", x, w, network.pointwise.b.value, axis=0)
    x = to.op("CONV_2D", (x, *constants), to.activation("pointwise", (8, 8, 32)), "Conv2DOptions", **CONV)

    pooled = to.activation("pool", (4, 4, 32), to.quantizations[x])
    x = to.op("MAX_POOL_2D", (x,), pooled, "Pool2DOptions", **POOL)
    shape = to.constant("shape", np.array([-1, 512], np.int32))
    flat = to.activation("flat", (512,), to.quantizations[x])
    x = to.op("RESHAPE", (x, shape), flat, "ReshapeOptions", new_shape=[-1, 512])
    constants = to.weights("dense", x, network.dense.w.value.T, network.dense.b.value, axis=None)
    logits = to.activation("logits", (10,))
    x = to.op("FULLY_CONNECTED", (x, *constants), logits, "FullyConnectedOptions")
    scores = to.activation("scores", (10,), SOFTMAX_OUTPUT)
    x = to.op("SOFTMAX", (x,), scores, "SoftmaxOptions", beta=1.0)
    return to.model(image, x, DESCRIPTION.format(kind="float32" if ranges is None else "int8"))


def calibrate(network: Network, images: Array) -> dict[str, Quantization]:
    """An int8 quantization for each stage that covers all its values and zero."""
    found = {}
    for name, values in network.stages(scaled(images)).items():
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        scale = np.float32((high - low) / 255)
        found[name] = Quantization.per_tensor(float(scale), int(np.rint(-128 - low / float(scale))))
    return found


# --- the command --------------------------------------------------------------------------------------------------


def make(out: Path) -> dict[str, float]:
    """Trains, writes the three files into a folder, and returns each model's accuracy on the held-out images."""
    from delegraph.demo import accuracy

    training, held_out = load_digits()
    network = train(training)
    right = network.forward(scaled(held_out.images)).argmax(-1) == held_out.labels
    found = {"network": float(right.mean())}
    ranges = calibrate(network, training.images)
    for name, model in (("float", convert(network)), ("int8", convert(network, ranges))):
        path = out / f"digits_{name}.tflite"
        write_file(model, path)
        found[name] = accuracy(path, held_out.images, held_out.labels)
    chosen = samples(held_out)
    np.savez_compressed(out / "digits.npz", images=chosen.images, labels=chosen.labels.astype(np.uint8))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="the folder to write into (default: %(default)s)")
    out = parser.parse_args().out
    for name, share in make(out).items():
        print(f"{name:8} {share:.2%} of {N_TEST} held-out images right")
    for path in sorted(out.glob("digits*")):
        print(f"{path.stat().st_size:8,} bytes  {path.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
