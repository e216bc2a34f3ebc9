"""The delegates that ship with delegraph, one folder each. They import delegraph.core only, never each other."""

if __name__ != "delegraph.delegates":
    raise ImportError(f"import delegraph.delegates, not {__name__}")
