"""Custom ops that delegraph can never run, and the tool that made them. Imports nothing of delegraph."""

from __future__ import annotations

import re

_FOREIGN: tuple[tuple[str, str, str], ...] = (
    # pattern of the custom code, what it is, what to do
    (
        r"Flex\w+",
        "an operator of TensorFlow itself that the TFLite converter passed through (Select TF ops)",
        "convert again without tf.lite.OpsSet.SELECT_TF_OPS, or replace the operator in the model",
    ),
    (
        r"edgetpu-custom-op",
        "code for Google's Edge TPU, made by edgetpu_compiler",
        "use the .tflite from before edgetpu_compiler",
    ),
    (
        r"ethos-u",
        "a command stream for an Arm Ethos-U, made by Vela",
        "use the .tflite from before vela",
    ),
    (
        r"DISPATCH_OP",
        "a graph compiled for an NPU by a LiteRT compiler plug-in (Qualcomm, MediaTek, Google Tensor)",
        "use the .tflite from before the ahead-of-time compilation",
    ),
    (
        r"NPU_OP|NPU_CALL",
        "a graph compiled for an NPU by its vendor's tool",
        "use the .tflite from before that tool",
    ),
    (
        r"XC_\w+",
        "an operator of XMOS's xcore compiler",
        "use the .tflite from before xcore-opt",
    ),
    (
        r"MTKEXT_\w+",
        "an operator of MediaTek's NeuroPilot converter",
        "convert again with the standard TFLite converter",
    ),
    (
        r"stm32\w*|STM_\w+|NEUTRON_GRAPH|NeutronGraph|vsi-npu|nbg",
        "a graph compiled for an NPU by its vendor's tool",
        "use the .tflite from before that tool",
    ),
)


def maker_of(custom_code: str) -> tuple[str, str] | None:
    """(what the op is and which tool made it, what to do) for an op that can never run here, else None."""
    for pattern, maker, advice in _FOREIGN:
        if re.fullmatch(pattern, custom_code):
            return maker, advice
    return None
