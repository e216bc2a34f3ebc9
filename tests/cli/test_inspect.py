"""``delegraph inspect`` and ``delegraph devices``."""

from __future__ import annotations

import dataclasses

import pytest
from tests.cli.conftest import Call, Given, MakeModel
from tests.support import require, shared_path

import delegraph as dg
from delegraph.core.graph.dtype import DType


def test_tiny_model(delegraph: Call, passing: MakeModel) -> None:
    model = passing(Given(DType.UINT8, (1, -1, 3), 0.5, 3, name="image"), Given(DType.STRING, (2,), name="words"))
    result = delegraph("inspect", model, "--json", "--ops", "--tensors")
    assert result.code == 0, result.err
    report = result.json
    assert report["file_bytes"] == model.stat().st_size and report["schema_version"] == 3
    assert report["inputs"] == [
        {
            "name": "image",
            "index": 0,
            "dtype": "uint8",
            "shape": [1, -1, 3],
            "quantization": {"scale": 0.5, "zero_point": 3},
        },
        {"name": "words", "index": 1, "dtype": "string", "shape": [2], "quantization": None},
    ]
    assert (report["ops"], report["op_list"], report["macs"], report["unsupported"]) == ([], [], 0, [])
    assert [t["role"] for t in report["tensor_list"]] == ["input", "input"]
    text = delegraph("inspect", model, "--ops", "--tensors").out
    assert "[1,?,3]" in text and "0.5 * (q - 3)" in text


def real(name: str) -> str:
    require("shared")
    return str(shared_path() / "models" / "real" / f"{name}.tflite")


def test_mobilenet(delegraph: Call) -> None:
    report = delegraph("inspect", real("mobilenet_v2_1.0_224_quant"), "--json", "--ops").json
    assert report["min_runtime_version"] == "1.5.0"
    assert report["metadata"]["TFLITE_METADATA"] == 696 and report["about"]["name"] == "ImageClassifier"
    counts = {kind["name"]: kind["count"] for kind in report["ops"]}
    assert (counts["CONV_2D"], counts["DEPTHWISE_CONV_2D"], counts["ADD"]) == (36, 17, 10)
    assert 299e6 < report["macs"] < 303e6
    assert len(report["op_list"]) == 66 == report["subgraphs"][0]["n_ops"]
    assert report["constant_bytes"]["uint8"] > 3_000_000


def test_signatures_and_subgraphs(delegraph: Call) -> None:
    result = delegraph("inspect", real("training_linear_regression"), "--json", "--tensors", "--subgraph", 3)
    signatures = {s["key"]: s for s in result.json["signatures"]}
    assert set(signatures) == {"get_weights", "infer", "set_weights", "train"}
    assert [i["name"] for i in signatures["train"]["inputs"]] == ["x", "y"]
    assert len(result.json["subgraphs"]) == 5
    assert len(result.json["tensor_list"]) == result.json["subgraphs"][3]["n_tensors"]


@pytest.mark.parametrize(
    ("name", "op", "maker"),
    [
        ("person_detect_vela", "ethos-u", "Vela"),
        ("mobilenet_v1_0.25_128_quant_edgetpu", "edgetpu-custom-op", "edgetpu_compiler"),
        ("planestrike_tf_agents_flex", "FlexMultinomial", "Select TF ops"),
    ],
)
def test_ops_of_other_tools(delegraph: Call, name: str, op: str, maker: str) -> None:
    result = delegraph("inspect", real(name), "--json")
    assert result.code == 0
    (found,) = (each for each in result.json["unsupported"] if each["name"] == op)
    assert maker in found["made_by"] and found["advice"]
    text = delegraph("inspect", real(name)).out
    assert found["advice"] in text and "\nops that nothing here can run\n" in text
    refused = delegraph("run", real(name), "--random")
    assert refused.code == 4 and found["advice"] in refused.err and "delegraph inspect" in refused.err


def test_every_model_can_be_inspected(delegraph: Call) -> None:
    require("shared")
    for path in sorted((shared_path() / "models" / "real").glob("**/*.tflite")):
        result = delegraph("inspect", path, "--json", "--ops", "--tensors")
        assert result.code in (0, 3), f"{path.name}: {result.err}"
        for refusal in result.json.get("unsupported", ()):
            assert "not usable" not in refusal["reason"], f"{path.name}: {refusal}"


def test_devices(delegraph: Call) -> None:
    found = delegraph("devices", "--json").json
    assert [d["id"] for d in found] == [info.id for info in dg.devices()]
    keys = "id kind available reason remedy is_virtual machine vendor driver dtypes fingerprint may_hang peaks"
    assert all(set(keys.split()) <= set(device) for device in found)
    for device in found:
        assert device["available"] or (device["reason"] and device["remedy"])
        assert delegraph("devices", device["id"], "--json").json[0] == device
    text = delegraph("devices").out
    assert all(device["id"] in text and device["reason"] in text for device in found)
    assert "reference" in delegraph("devices", "reference").out


def test_a_family_stands_for_its_devices(delegraph: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from delegraph import registry

    base = registry.devices()[0]
    found = [dataclasses.replace(base, id=f"gpu:{i}", is_virtual=bool(i)) for i in range(2)]
    monkeypatch.setattr(registry, "devices", lambda: [base, *found])
    assert [d["id"] for d in delegraph("devices", "gpu", "--json").json] == ["gpu:0", "gpu:1"]
    assert "(emulated)" in delegraph("devices", "gpu").out
