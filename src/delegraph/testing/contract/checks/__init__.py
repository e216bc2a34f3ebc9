"""The checks, one module a subject. See ``delegraph.testing.contract.check``."""
