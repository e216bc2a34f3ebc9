"""``dg.load_delegate``: by path and by entry point, what is imported when, and what is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph import plugins, registry
from delegraph.core.abi.values import DeviceInfo
from delegraph.core.model.model import Model

COLUMN = np.array([[1], [2]], np.float32)
EXAMPLE = Path(__file__).with_name("example_delegate.py")


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts and ends without loaded delegates."""
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    monkeypatch.setattr(plugins._allowed, "done", None)
    yield
    for delegate in registry._loaded.values():
        for info in delegate.devices():
            registry._slots.pop(info.id, None)
            registry.health.forget(info.id)
    registry._loaded.clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with the example as entry point "adder", and a broken one; the name of the first one's module."""
    (tmp_path / "adder_package.py").write_text(EXAMPLE.read_text())
    (tmp_path / "broken_package.py").write_text("raise RuntimeError('no licence')\n")
    info = tmp_path / "adder_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: adder-package\nVersion: 1.0\n")
    points = "adder = adder_package:AddDelegate\nbroken = broken_package:DELEGATE"
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{points}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "adder_package", raising=False)
    return "adder_package"


def sums(*, activation: int = 0) -> Model:
    g = GraphBuilder()
    x, y = g.input([2, 3]), g.input([3])
    z = g.op("ADD", [x, y], [2, 3], fused_activation_function=activation)
    g.outputs = [g.op("ADD", [z, g.constant(COLUMN)], [2, 3])]
    return model(g)


@pytest.mark.parametrize("isolate", [False, True])
def test_the_example_adds(isolate: bool) -> None:
    if isolate and sys.platform == "win32":
        pytest.skip("a process of its own needs POSIX")
    (info,) = dg.load_delegate(EXAMPLE, isolate=isolate)
    assert info.id == "adder" and info.may_hang is isolate
    compiled = dg.compile(sums(), devices=["adder"], fallback="error")
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([10, 20, 30], np.float32)
    np.testing.assert_array_equal(compiled(x, y), x + y + COLUMN)
    assert compiled.receipt().devices == {"adder": 1}


def test_the_example_says_no_with_a_reason() -> None:
    dg.load_delegate(EXAMPLE)
    rows = dg.compile(sums(activation=1), devices=["adder"]).placement.rows
    assert "without an activation" in rows[0].refusals["adder"] and rows[1].device == "adder"


def test_an_installed_delegate_is_not_imported_for_being_there(installed: str) -> None:
    assert set(plugins.installed()) >= {"adder", "broken"}
    assert registry.loaded() == () and installed not in sys.modules


def test_naming_an_installed_delegate_loads_it(installed: str) -> None:
    (info,) = dg.load_delegate("adder")
    assert info.id == "adder" and installed in sys.modules
    assert [d.name for d in registry.loaded()] == ["adder"]


def test_the_environment_allows_delegates(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, " adder, broken,,nonsense")
    infos = {info.id: info for delegate in registry.loaded() for info in delegate.devices()}
    assert set(infos) == {"adder", "broken", "nonsense"}
    assert infos["adder"].available
    assert not infos["broken"].available and "no licence" in infos["broken"].reason
    assert "expected a path, or an installed delegate" in infos["nonsense"].reason
    assert plugins.VARIABLE in infos["broken"].remedy


def test_an_isolated_one_is_imported_in_the_child_only(installed: str) -> None:
    if sys.platform == "win32":
        pytest.skip("a process of its own needs POSIX")
    (info,) = dg.load_delegate("adder", isolate=True)
    assert info.id == "adder" and installed not in sys.modules


def test_loading_again_replaces() -> None:
    dg.load_delegate(EXAMPLE, {"mode": 1})
    first = registry.slot(registry.resolve("adder")[0])
    dg.load_delegate(EXAMPLE, {"mode": 2})
    assert [d.name for d in registry.loaded()] == ["adder"]
    second = registry.slot(registry.resolve("adder")[0])
    assert second is not first
    assert first.info.fingerprint["options"] != second.info.fingerprint["options"]


def test_options_reach_the_device(tmp_path: Path) -> None:
    path = tmp_path / "options.py"
    path.write_text(
        EXAMPLE.read_text()
        + "\nseen = []\nAddDelegate.open = lambda self, id, options, host=None: seen.append(options) or AddDevice()\n"
        + "DELEGATE = AddDelegate()\nAddDelegate.seen = seen\n"
    )
    dg.load_delegate(path, {"speed": "high"})
    registry.slot(registry.resolve("adder")[0]).opening()
    delegate = registry.loaded()[0]._delegate  # type: ignore[attr-defined]
    assert delegate.seen == [{"speed": "high"}]


@pytest.mark.parametrize("options", ["speed=high", ["speed"], 3], ids=repr)
def test_options_are_a_mapping(options: object) -> None:
    with pytest.raises(
        dg.InvalidArgument, match=r"load_delegate: options: expected values by name, as {'speed': 'high'}"
    ):
        dg.load_delegate(EXAMPLE, options)  # type: ignore[arg-type]
    assert registry.loaded() == ()


REFUSED = {
    "syntax": ("def", "expected a plug-in that can be imported, found SyntaxError"),
    "raises": ("1 / 0", "found ZeroDivisionError: division by zero; mend or reinstall it"),
    "nothing": ("x = 1", "expected DELEGATE, or one class that derives from Delegate, found none"),
    "no delegate": ("DELEGATE = object", "expected a Delegate, found object without name, version, devices, open"),
    "taken name": ("{example}\nAddDelegate.name = 'cpu'\nINFO = replace(INFO, id='cpu')", "found 'cpu'; rename it"),
    "foreign id": (
        "{example}\nINFO = replace(INFO, id='other')",
        "expected device ids 'adder' or 'adder:...', found 'other'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str, tmp_path: Path) -> None:
    source, message = REFUSED[name]
    path = tmp_path / "plug_in.py"
    path.write_text(source.replace("{example}", EXAMPLE.read_text() + "\nfrom dataclasses import replace\n"))
    with pytest.raises(dg.InvalidArgument) as caught:
        dg.load_delegate(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert registry.loaded() == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no-such-delegate", "expected a path, or an installed delegate"),
        ("./no/such/file.py", "expected a file, found './no/such/file.py', which is none; check the path"),
        ("libacme.txt/x", "expected a file that ends with .py or .so, .dll, .dylib"),
        ("", "expected a path or the name of an installed delegate, found ''"),
    ],
)
def test_what_is_not_there_is_refused(given: str, message: str) -> None:
    with pytest.raises(dg.InvalidArgument) as caught:
        dg.load_delegate(given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("page", "language", "source"),
    [
        ("delegates-in-python.md", "python", EXAMPLE),
        ("delegates-in-c.md", "c", EXAMPLE.parent / "native" / "acme_delegate.c"),
    ],
)
def test_the_manual_quotes_the_example(page: str, language: str, source: Path) -> None:
    text = (EXAMPLE.parents[2] / "docs" / page).read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    quotes = [block for block in blocks if not block.startswith("import delegraph")]
    assert quotes
    for block in quotes:
        assert block in source.read_text(), block


def test_a_plug_in_that_can_no_longer_list_its_devices_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "gone.py"
    path.write_text(EXAMPLE.read_text())
    dg.load_delegate(path)
    delegate = registry.loaded()[0]

    def devices() -> list[DeviceInfo]:
        raise OSError("the bus is gone")

    delegate.devices = devices  # type: ignore[method-assign]
    (broken,) = [info for info in dg.devices() if info.id == "adder"]
    assert not broken.available and broken.reason == "it failed to list its devices: OSError: the bus is gone"
    assert {"cpu", "reference"} <= {info.id for info in dg.devices()}
    with pytest.raises(dg.InvalidArgument, match="did you mean 'cpu'"):
        dg.compile(sums(), devices="cpux")
    dg.load_delegate(EXAMPLE)  # a mended one in its place
    assert dg.device("adder").available


def test_a_device_that_its_delegate_describes_anew_gets_another_slot() -> None:
    delegate = EchoDelegate("it", lambda node: True)
    with registered(delegate):
        before = registry.slot(registry.device("echo:it"))
        assert registry.slot(before.info) is before
        delegate._info = replace(before.info, driver="2")
        after = registry.slot(registry.device("echo:it"))
        assert after is not before and after.info.driver == "2" and registry.slot(after.info) is after
