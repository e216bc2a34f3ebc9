"""Help for testing: LiteRT as an oracle."""

from delegraph.testing.oracle import (
    Job,
    ModelDetails,
    OpDetails,
    Oracle,
    OracleCrashed,
    OracleError,
    OracleRefused,
    OracleResult,
    OracleTimeout,
    OracleUnavailable,
    SignatureDetails,
    TensorDetails,
    available,
    outputs_digest,
    recipe_inputs,
)

__all__ = [
    "Job",
    "ModelDetails",
    "OpDetails",
    "Oracle",
    "OracleCrashed",
    "OracleError",
    "OracleRefused",
    "OracleResult",
    "OracleTimeout",
    "OracleUnavailable",
    "SignatureDetails",
    "TensorDetails",
    "available",
    "outputs_digest",
    "recipe_inputs",
]
