"""Users' own operators: the documented example runs on a real model, and what is wrong with one is said in words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import require, shared_path

import delegraph as dg
from delegraph.core.model.model import Model
from delegraph.core.ops import registry
from delegraph.core.ops.cases import case_model
from delegraph.ops import Case, Constraint, DType, Form, Node, Operand, Result

PAGE = Path(__file__).parents[1] / "docs" / "custom-ops.md"


@pytest.fixture
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    registry.find("ADD")
    monkeypatch.setattr(registry, "_ops", dict(registry._ops))
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    yield


def _same_shape(node: Node) -> list[tuple[int, ...]]:
    return [node.input(0).shape]


def _form(kernel: Callable[..., Any]) -> Form:
    return Form("float32 -> float32", lambda node: kernel)


def declared(kernel: Callable[..., Any] = lambda x: (x,), **changes: Any) -> dg.OpDef:
    """A custom op "Own" with that kernel."""
    op = dg.OpDef("Own", ("x",), ("y",), _same_shape, (_form(kernel),), is_custom=True)
    return dataclasses.replace(op, **changes)


def own(kernel: Callable[..., Any] = lambda x: (x,), **changes: Any) -> tuple[dg.OpDef, dg.CompiledModel]:
    """The op, registered, and a model of it between float32[3] and float32[3]."""
    op = dg.register_op(declared(kernel, **changes))
    return op, dg.compile(_model(op))


def _model(op: dg.OpDef) -> Model:
    return case_model(op, Case("c", (Operand(np.zeros(3, np.float32)),), (Result(DType.FLOAT32),)), [(3,)])


def _example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    return str(code)


def test_the_documented_example_runs(fresh_registry: None) -> None:
    require("shared")
    path = shared_path() / "models" / "real" / "testdata" / "litert" / "custom_sinh.bin"
    with pytest.raises(dg.UnsupportedOp, match="Sinh: no custom op of that name is registered; register one with"):
        dg.compile(path)
    exec(compile(_example(), str(PAGE), "exec"), {})
    model = dg.compile(path)
    x = np.linspace(-1, 1, int(np.prod(model.inputs[0].shape)), dtype=np.float32).reshape(model.inputs[0].shape)
    np.testing.assert_allclose(model(x), np.sinh(x), rtol=1e-6)


def test_a_name_can_be_taken_once(fresh_registry: None) -> None:
    op = declared()
    assert dg.register_op(op) is op
    assert dg.register_op(op) is op  # once more is no second one
    with pytest.raises(dg.InvalidArgument) as caught:
        dg.register_op(declared())
    assert str(caught.value) == (
        "op 'Own': expected a name of its own, found an op of that name is registered already; pass replace=True to "
        "put this one in its place, and compile the models with it again"
    )


@pytest.mark.parametrize("replace", [False, True])
def test_delegraphs_own_ops_stay(fresh_registry: None, replace: bool) -> None:
    with pytest.raises(dg.InvalidArgument, match="an op of that name is registered already: one of delegraph's own$"):
        dg.register_op(declared(name="ADD", is_custom=False), replace=replace)


def test_an_op_is_replaced_for_models_compiled_from_then_on(fresh_registry: None) -> None:
    op, old = own(lambda x: (x * 2,))
    new = dg.register_op(dataclasses.replace(op, forms=(_form(lambda x: (x * 3,)),)), replace=True)
    x = np.ones(3, np.float32)
    assert old(x).tolist() == [2, 2, 2]
    assert dg.compile(_model(new))(x).tolist() == [3, 3, 3]


def test_a_custom_op_does_not_pass_for_a_builtin(fresh_registry: None) -> None:
    """A custom op called ADD is not TFLite's ADD."""
    from tests.graphs import GraphBuilder, model

    g = GraphBuilder()
    x = g.input([2])
    g.outputs = [g.op("ADD", [x, x], [2])]
    built = model(g)
    code = built.operator_codes[0].replace(deprecated_builtin_code=32, builtin_code=32, custom_code="ADD")
    custom = type(built)(built.root.replace(operator_codes=(code,)), built.source)
    with pytest.raises(dg.UnsupportedOp):
        dg.compile(custom)


# --- declarations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "op: expected a name: the custom code in the model, found ''"),
        (
            {"is_custom": False},
            "op 'Own': expected is_custom=True, as TFLite has no builtin operator of that name, found is_custom=False; "
            "pass it",
        ),
        ({"host": "control"}, "op 'Own': expected host='': core runs only its own operators itself, found host='contr"),
        ({"inputs": "x"}, "op 'Own': inputs: expected a tuple of operand names, found 'x'; for example ('x',)"),
        ({"outputs": (1,)}, "op 'Own': outputs: expected a tuple of operand names, found (1,); for example ('x',)"),
        ({"shapes": None}, "op 'Own': shapes: expected a function from Node to one shape per output, found None"),
        ({"forms": ()}, "op 'Own': forms: expected a tuple of at least one Form, found (); for example (Form('float32"),
        ({"forms": ("float32 -> float32",)}, "op 'Own': forms: expected a tuple of at least one Form, found ('float32"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_what_no_model_could_run_with_is_refused(fresh_registry: None, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(dg.InvalidArgument, match=re.escape(message)):
        dg.register_op(declared(**changes))
    assert registry.find("Own") is None


@pytest.mark.parametrize("found", ["Own", _same_shape, None], ids=["text", "function", "None"])
def test_only_an_opdef_is_registered(found: Any) -> None:
    with pytest.raises(dg.InvalidArgument, match=r"register_op: expected an OpDef, found (str|function|None); declare"):
        dg.register_op(found)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ("float32", "form: expected types such as 'float32, int32? -> float32', found 'float32'"),
        ("int8 -> int8 -> int8", "form: expected types such as"),
        ("flot32 -> float32", "form 'flot32 -> float32': expected names of types (float32, float16, int32, uint8, "),
        ("float32 -> int8|in8", "float8_e5m2, any), found 'in8'"),
        (None, "form: expected types such as 'float32, int32? -> float32', found None"),
    ],
)
def test_types_of_a_form_are_checked(types: Any, message: str) -> None:
    with pytest.raises(dg.InvalidArgument, match=re.escape(message)):
        Form(types, lambda node: lambda x: (x,))


def test_a_form_prepares_with_a_function() -> None:
    with pytest.raises(
        dg.InvalidArgument, match="form 'int8 -> int8': expected prepare, a function from Node to kernel"
    ):
        Form("int8 -> int8", None)  # type: ignore[arg-type]


def test_a_declaration_is_shown_in_short() -> None:
    assert repr(declared()) == "OpDef('Own', custom, float32 -> float32)"


# --- calls


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (lambda x: x, "expected its kernel to return a tuple of 1 array, found an array; return (y,)"),
        (lambda x: None, "expected its kernel to return a tuple of 1 array, found None"),
        (lambda x: (x, x), "expected its kernel to return a tuple of 1 array, found 2"),
        (lambda x: (), "expected its kernel to return a tuple of 1 array, found 0"),
        (lambda x: [x.tolist()], "expected its kernel to return arrays, found list as output 0"),
        (lambda x: (x[:1],), "expected its kernel to return float32[3] as output 0, found float32[1]"),
        (
            lambda x: (x * 2.0**0.5 + np.zeros(3),),
            "expected its kernel to return float32[3] as output 0, found float64[3]",
        ),
        (lambda x: 1 / 0, "its kernel raised ZeroDivisionError: division by zero"),
        (
            lambda x: (np.multiply(x, 2, out=x),),
            "its kernel raised ValueError: output array is read-only; operands can't be written to: return a new array",
        ),
    ],
    ids=["array", "none", "two", "no array", "list", "shape", "dtype", "raises", "writes"],
)
def test_what_a_kernel_does_wrong_names_the_op(fresh_registry: None, kernel: Callable[..., Any], message: str) -> None:
    _, m = own(kernel)
    x = np.ones(3, np.float32)
    with pytest.raises(dg.CustomOpError) as caught:
        m(x)
    assert str(caught.value) == f"subgraphs[0].operators[0] Own: {message}"
    assert caught.value.op == "Own"
    assert x.tolist() == [1, 1, 1]


def test_the_exception_is_kept(fresh_registry: None) -> None:
    _, m = own(lambda x: {1: x}[2])
    with pytest.raises(dg.CustomOpError) as caught:
        m(np.ones(3, np.float32))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_kernel_may_return_what_it_was_given(fresh_registry: None) -> None:
    _, m = own(lambda x: [x])
    x = np.ones(3, np.float32)
    y = m(x)
    y[:] = 5
    assert x.tolist() == [1, 1, 1] and m(x).tolist() == [1, 1, 1]


def test_a_kernel_may_say_what_data_it_can_not_take(fresh_registry: None) -> None:
    def prepare(node: Node) -> Callable[..., Any]:
        def run(x: Any) -> Any:
            node.require(bool((x > 0).all()), "positive values", x.min())
            return (np.log(x),)

        return run

    _, m = own(forms=(Form("float32 -> float32", prepare),))
    with pytest.raises(dg.DataError, match="Own: expected positive values, found -1.0"):
        m(-np.ones(3, np.float32))


def test_where_data_decides_the_shape_any_is_right(fresh_registry: None) -> None:
    _, m = own(lambda x: (x[x > 0],), shapes=lambda node: [None])
    assert m(np.array([1, -1, 2], np.float32)).tolist() == [1, 2]
    _, m = (registry._ops.pop("Own"), own(lambda x: (x > 0,), shapes=lambda node: [None])[1])
    with pytest.raises(dg.CustomOpError, match=r"expected its kernel to return float32 as output 0, found bool\[3\]"):
        m(np.ones(3, np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": lambda node: 1 / 0}, "its shapes function raised ZeroDivisionError: division by zero"),
        (
            {"shapes": lambda node: node.input(0).shape},
            "expected its shapes function to return 1 shape in a list, None for one that the data decides, found (3,)",
        ),
        ({"shapes": lambda node: [(3,), (3,)]}, "expected its shapes function to return 1 shape in a list, None for"),
        ({"shapes": lambda node: [(-1,)]}, "expected its shapes function to return 1 shape in a list, None for one"),
        ({"shapes": lambda node: None}, "decides, found None"),
        (
            {"forms": (Form("float32 -> float32", lambda node: {1: lambda x: (x,)}[2]),)},
            "prepare of its form 'float32 -> float32' raised KeyError: 2",
        ),
        (
            {"forms": (Form("float32 -> float32", lambda node: 3),)},  # type: ignore[arg-type,return-value]
            "expected prepare of its form 'float32 -> float32' to return a kernel, found int",
        ),
        (
            {"forms": (Form("float32 -> float32", lambda node: lambda x: (x,), when=lambda node: bool(1 / 0)),)},
            "'when' of its form 'float32 -> float32' raised ZeroDivisionError",
        ),
        (
            {"constraints": (Constraint("small", "it has to be small", lambda node: str(1 / 0)),)},
            "its constraint 'small' raised ZeroDivisionError",
        ),
        ({"work": lambda node: 1 / 0}, "its work function raised ZeroDivisionError"),
    ],
    ids=["raises", "flat", "two", "unknown", "none", "prepare", "no kernel", "when", "constraint", "work"],
)
def test_what_else_goes_wrong_names_the_op(fresh_registry: None, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(dg.CustomOpError) as caught:
        own(**changes)
    assert str(caught.value).startswith("subgraphs[0].operators[0] Own: ")
    assert message in str(caught.value)
    assert "report" not in str(caught.value)
