"""A signature of an interpreter's model as a function of named inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delegraph.interpreter._interpreter import Interpreter


class SignatureRunner:
    """Calls one signature by name; shares the interpreter's tensors and state.

    As in LiteRT it counts as a reference to them: the interpreter's own ``allocate_tensors``, ``invoke`` and
    ``resize_tensor_input`` refuse to run while one is held.

    Raises:
        ValueError: no interpreter, or no signature of that key.
    """

    def __init__(self, interpreter: Interpreter | None = None, signature_key: str | None = None) -> None:
        if not interpreter:
            raise ValueError("None interpreter provided.")
        if not signature_key:
            raise ValueError("None signature_key provided.")
        signatures = interpreter._get_full_signature_list()
        if signature_key not in signatures:
            raise ValueError(f'Invalid signature_key provided: "{signature_key}".')
        self._interpreter = interpreter
        self._memory = interpreter._interpreter
        self._inputs = signatures[signature_key]["inputs"]
        self._outputs = signatures[signature_key]["outputs"]
        self._subgraph_index = interpreter._subgraph_of(signature_key)

    def __call__(self, **kwargs: Any) -> dict[str, Any]:
        """Resizes the inputs to the arrays' shapes, runs, and returns copies of the outputs by name.

        Raises:
            ValueError: the inputs' number, names or dtypes don't fit.
            RuntimeError: their shapes don't fit together, or an operator failed.
        """
        if len(kwargs) != len(self._inputs):
            raise ValueError(
                "Invalid number of inputs provided for running a SignatureDef, "
                f"expected {len(self._inputs)} vs provided {len(kwargs)}"
            )
        tensors = self._memory.subgraph(self._subgraph_index)
        for name, value in kwargs.items():
            if name not in self._inputs:
                raise ValueError(f"Invalid Input name ({name}) for SignatureDef")
            tensors.resize(self._inputs[name], tuple(value.shape), strict=False)
        self._interpreter._allocate(self._subgraph_index)
        for name, value in kwargs.items():
            tensors.write(self._inputs[name], value)
        self._interpreter._invoke(self._subgraph_index)
        return {name: tensors.copy(index) for name, index in self._outputs.items()}

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """Tensor details by input name."""
        return self._details(self._inputs)

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """Tensor details by output name."""
        return self._details(self._outputs)

    def _details(self, names: dict[str, int]) -> dict[str, dict[str, Any]]:
        details = self._interpreter._get_tensor_details
        return {name: details(index, self._subgraph_index) for name, index in names.items()}
