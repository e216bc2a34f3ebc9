"""Running: control flow, state with one commit a run, shapes that depend on data, dynamic shapes, many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model

import delegraph as dg
from delegraph.core.graph.dtype import DType
from delegraph.core.model.model import Model
from delegraph.core.model.writer import write
from delegraph.testing import Oracle


def counter() -> Model:
    """v += x; returns v. The initialiser sets v to 10 once."""
    main, once = GraphBuilder("main"), GraphBuilder("init")
    handle = once.op("VAR_HANDLE", [], [1], DType.RESOURCE, shared_name="v")
    once.op("ASSIGN_VARIABLE", [handle, once.constant(np.array([10, 10], np.float32))])
    x = main.input([2])
    main.op("CALL_ONCE", [], init_subgraph_index=1)
    handle = main.op("VAR_HANDLE", [], [1], DType.RESOURCE, shared_name="v")
    old = main.op("READ_VARIABLE", [handle], [2])
    new = main.op("ADD", [x, old], [2])
    main.op("ASSIGN_VARIABLE", [handle, new])
    main.outputs = [new]
    return model(main, once)


def loop() -> Model:
    """while i < n: i += 1, y += y."""
    main, cond, body = GraphBuilder("main"), GraphBuilder("cond"), GraphBuilder("body")
    n, i, y = cond.input([1], DType.INT32), cond.input([1], DType.INT32), cond.input([3])
    cond.outputs = [cond.op("LESS", [i, n], [1], DType.BOOL)]
    n, i, y = body.input([1], DType.INT32), body.input([1], DType.INT32), body.input([3])
    one = body.constant(np.array([1], np.int32))
    body.outputs = [n, body.op("ADD", [i, one], [1], DType.INT32), body.op("ADD", [y, y], [3])]
    n, i, y = main.input([1], DType.INT32), main.input([1], DType.INT32), main.input([3])
    outputs = [main.tensor([1], DType.INT32), main.tensor([1], DType.INT32), main.tensor([3])]
    main.op("WHILE", [n, i, y], outputs=outputs, cond_subgraph_index=1, body_subgraph_index=2)
    main.outputs = outputs[1:]
    return model(main, cond, body)


def branch() -> Model:
    """x + x if the condition holds, else x * x."""
    main, then, other = GraphBuilder("main"), GraphBuilder("then"), GraphBuilder("else")
    for part, name in ((then, "ADD"), (other, "MUL")):
        x = part.input([3])
        part.outputs = [part.op(name, [x, x], [3])]
    c, x = main.input([1], DType.BOOL), main.input([3])
    main.outputs = [main.op("IF", [c, x], [3], then_subgraph_index=1, else_subgraph_index=2)]
    return model(main, then, other)


def reshape_by_data() -> Model:
    """reshape(x, shape) + reshape(x, shape): both ops behind the reshape wait for its shape."""
    g = GraphBuilder()
    x, shape = g.input([6]), g.input([2], DType.INT32)
    y = g.op("RESHAPE", [x, shape], [1, 1])
    z = g.op("ADD", [y, y], [1, 1])
    g.outputs = [g.op("MUL", [z, y], [1, 1])]
    return model(g)


def test_while(oracle: Oracle) -> None:
    inputs = [np.array([5], np.int32), np.array([0], np.int32), np.array([1, 2, 3], np.float32)]
    i, y = dg.compile(loop())(*inputs)
    assert i.tolist() == [5] and y.tolist() == [32, 64, 96]
    for ours, theirs in zip((i, y), oracle.run(write(loop()), inputs).outputs, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("condition", [True, False])
def test_if(condition: bool) -> None:
    y = dg.compile(branch())(np.array([condition]), np.array([1, 2, 3], np.float32))
    assert y.tolist() == ([2, 4, 6] if condition else [1, 4, 9])


def test_state_lives_in_a_session() -> None:
    compiled = dg.compile(counter())
    one = np.ones(2, np.float32)
    assert [compiled(one)[0] for _ in range(3)] == [11, 12, 13]
    session = compiled.session()
    assert session(one)[0] == 11
    assert compiled(one)[0] == 14
    session.reset()
    assert session(one)[0] == 11


def test_a_run_that_fails_changes_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    from delegraph.core.runtime import control

    compiled = dg.compile(counter())
    one = np.ones(2, np.float32)
    assert compiled(one)[0] == 11
    original = control.run

    def fail_after_the_assignment(node, *args):  # type: ignore[no-untyped-def]
        results = original(node, *args)
        if node.op.name == "ASSIGN_VARIABLE":
            raise dg.DataError(node.place, "no fault", "an injected one")
        return results

    monkeypatch.setattr(control, "run", fail_after_the_assignment)
    with pytest.raises(dg.DataError, match="injected"):
        compiled(one)
    monkeypatch.undo()
    assert compiled(one)[0] == 12


def test_reading_a_variable_that_nobody_set() -> None:
    g = GraphBuilder()
    handle = g.op("VAR_HANDLE", [], [1], DType.RESOURCE, shared_name="v")
    g.outputs = [g.op("READ_VARIABLE", [handle], [2])]
    with pytest.raises(dg.DataError, match="a variable that was assigned before"):
        dg.compile(model(g))()


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (6, 1)])
def test_shapes_that_depend_on_data(shape: tuple[int, int]) -> None:
    compiled = dg.compile(reshape_by_data())
    x = np.arange(6, dtype=np.float32)
    y = compiled(x, np.array(shape, np.int32))
    np.testing.assert_array_equal(y, (2 * x * x).reshape(shape))
    assert "depends on data" in str(compiled.placement)


def test_dynamic_batch_plans_per_shape() -> None:
    g = GraphBuilder()
    x = g.input([1, 3], signature=[-1, 3])
    g.outputs = [g.op("ADD", [x, x], [1, 3])]
    compiled = dg.compile(model(g))
    for n in (1, 4, 2, 4):
        x_value = np.ones((n, 3), np.float32)
        assert compiled(x_value).shape == (n, 3)
    with pytest.raises(dg.InvalidArgument, match=r"expected shape \[-1, 3\]"):
        compiled(np.ones((2, 4), np.float32))


def test_many_threads_share_a_model() -> None:
    compiled = dg.compile(reshape_by_data())

    def call(k: int) -> bool:
        x = np.arange(6, dtype=np.float32) + k
        shape = (2, 3) if k % 2 else (3, 2)
        return bool((compiled(x, np.array(shape, np.int32)) == (2 * x * x).reshape(shape)).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(200)))
    assert compiled.receipt().runs == 200


def test_threads_take_turns_on_one_session() -> None:
    compiled = dg.compile(counter())
    one = np.ones(2, np.float32)
    with ThreadPoolExecutor(4) as pool:
        seen = sorted(float(v[0]) for v in pool.map(lambda _: compiled(one), range(40)))
    assert seen == [11.0 + k for k in range(40)]


def test_what_nothing_runs_in_a_signature_of_its_own_leaves_the_others_alone() -> None:
    """As in a model that is trained on the device, whose "save" and "restore" are operators of TensorFlow."""
    main, save = GraphBuilder(), GraphBuilder("save")
    x = main.input([2])
    main.outputs = [main.op("ADD", [x, x], [2])]
    y = save.input([2])
    save.outputs = [save.op("NEG", [y], [2])]
    ends = {"infer": (0, {"x": x}, {"y": main.outputs[0]}), "save": (1, {"x": y}, {"y": save.outputs[0]})}
    found = model(main, save, signatures=ends)
    codes = [
        code.replace(builtin_code=32, deprecated_builtin_code=32, custom_code="FlexSave") if n == 1 else code
        for n, code in enumerate(found.root.operator_codes)
    ]
    compiled = dg.compile(write(Model(found.root.replace(operator_codes=tuple(codes)))))
    np.testing.assert_array_equal(compiled(np.ones(2, np.float32)), [2, 2])
    np.testing.assert_array_equal(compiled.signature("infer")(x=np.ones(2, np.float32))["y"], [2, 2])
    with pytest.raises(dg.UnsupportedOp, match="FlexSave"):
        compiled.signature("save")


@pytest.mark.parametrize("what", ["inputs", "outputs"])
def test_a_signature_must_name_ends_of_its_graph(what: str) -> None:
    g = GraphBuilder()
    x = g.input([2])
    inside = g.op("ADD", [x, x], [2])
    g.outputs = [g.op("NEG", [inside], [2])]
    ends = ({"x": inside}, {"y": g.outputs[0]}) if what == "inputs" else ({"x": x}, {"y": inside})
    compiled = dg.compile(model(g, signatures={"inner": (0, *ends)}))
    np.testing.assert_array_equal(compiled(np.ones(2, np.float32)), [-2, -2])
    with pytest.raises(
        dg.InvalidModel, match=f"signature 'inner': expected {what} of its graph, found '[xy]', which is"
    ):
        compiled.signature("inner")


def test_signatures_by_name() -> None:
    g = GraphBuilder()
    x, y = g.input([2]), g.input([2])
    g.outputs = [g.op("SUB", [x, y], [2])]
    compiled = dg.compile(model(g, signatures={"minus": (0, {"a": x, "b": y}, {"difference": g.outputs[0]})}))
    assert compiled.signatures == ("minus",)
    minus = compiled.signature("minus")
    found = minus(b=np.array([1, 1], np.float32), a=np.array([3, 5], np.float32))
    assert found["difference"].tolist() == [2, 4]
    with pytest.raises(dg.InvalidArgument, match="signature: expected one of 'minus', found 'plus'"):
        compiled.signature("plus")
    with pytest.raises(dg.InvalidArgument, match="no value for 'b'"):
        minus(a=np.zeros(2, np.float32))


def test_outputs_are_the_callers_own() -> None:
    g = GraphBuilder()
    x = g.input([2])
    c = g.constant(np.array([1, 2], np.float32))
    g.outputs = [x, c, g.op("ADD", [x, c], [2])]
    compiled = dg.compile(model(g))
    given = np.array([5, 6], np.float32)
    first = compiled(given)
    for value in first:
        value[:] = -1
    assert given.tolist() == [5, 6]
    assert [v.tolist() for v in compiled(given)] == [[5, 6], [1, 2], [6, 8]]


def test_a_graph_that_calls_itself_is_refused() -> None:
    g = GraphBuilder()
    c, x = g.input([1], DType.BOOL), g.input([1])
    g.outputs = [g.op("IF", [c, x], [1], then_subgraph_index=0, else_subgraph_index=0)]
    with pytest.raises(dg.InvalidModel):
        dg.compile(model(g))


def test_inputs_of_one_name_are_told_apart_by_position() -> None:
    g = GraphBuilder()
    x, y = g.input([2]), g.input([2])
    g.outputs = [g.op("SUB", [x, y], [2])]
    g.tensors[y] = g.tensors[y].replace(name="t0")
    compiled = dg.compile(model(g))
    five, one = np.full(2, 5, np.float32), np.ones(2, np.float32)
    assert compiled(five, one).tolist() == [4, 4]
    with pytest.raises(dg.InvalidArgument, match="input 't0': expected a name of one input, found 2"):
        compiled(t0=five)


def test_an_input_may_have_any_name() -> None:
    g = GraphBuilder()
    x = g.input([2])
    g.tensors[x] = g.tensors[x].replace(name="session")
    g.outputs = [g.op("ADD", [x, x], [2])]
    assert dg.compile(model(g))(session=np.ones(2, np.float32)).tolist() == [2, 2]


def test_an_output_that_is_a_variable_is_not_the_variable() -> None:
    main, once = GraphBuilder("main"), GraphBuilder("init")
    handle = once.op("VAR_HANDLE", [], [1], DType.RESOURCE, shared_name="v")
    once.op("ASSIGN_VARIABLE", [handle, once.constant(np.array([1, 2], np.float32))])
    main.op("CALL_ONCE", [], init_subgraph_index=1)
    handle = main.op("VAR_HANDLE", [], [1], DType.RESOURCE, shared_name="v")
    main.outputs = [main.op("READ_VARIABLE", [handle], [2])]
    compiled = dg.compile(model(main, once))
    compiled()[:] = 99
    assert compiled().tolist() == [1, 2]


def test_one_tensor_twice_among_the_outputs_is_two_arrays() -> None:
    g = GraphBuilder()
    x = g.input([2])
    y = g.op("ADD", [x, x], [2])
    g.outputs = [y, y]
    first, second = dg.compile(model(g))(np.ones(2, np.float32))
    first[:] = 0
    assert second.tolist() == [2, 2]


def test_a_variable_of_another_shape_than_the_file_says_inside_a_branch() -> None:
    """The plan that trusted the file is given up, in called graphs too."""
    main, then, other = GraphBuilder("main"), GraphBuilder("then"), GraphBuilder("else")
    for part in (then, other):
        handle = part.op("VAR_HANDLE", [], [1], DType.RESOURCE, shared_name="v")
        part.outputs = [part.op("READ_VARIABLE", [handle], [2])]
    value, condition = main.input([4]), main.input([1], DType.BOOL)
    handle = main.op("VAR_HANDLE", [], [1], DType.RESOURCE, shared_name="v")
    main.op("ASSIGN_VARIABLE", [handle, value])
    found = main.op("IF", [condition], [2], then_subgraph_index=1, else_subgraph_index=2)
    main.outputs = [main.op("ADD", [found, found], [2])]
    compiled = dg.compile(model(main, then, other))
    for _ in range(2):
        assert compiled(np.array([1, 2, 3, 4], np.float32), np.array([True])).tolist() == [2, 4, 6, 8]


def test_equal_buffers_with_other_contents_are_other_models() -> None:
    """A constant's digest is not remembered beyond the array."""
    from tests.test_tiny import CASE, X

    from delegraph.core.ops.cases import case_model
    from delegraph.core.ops.families.convolution import CONV_2D

    first = bytearray(write(case_model(CONV_2D, CASE, [(1, 2, 2, 1)])))
    before = dg.compile(first)(X)
    at = first.index(np.ones(4, np.float32).tobytes())
    first[at : at + 16] = np.full(4, 2, np.float32).tobytes()
    np.testing.assert_array_equal(dg.compile(first)(X), before * 2 - 0.5)
