"""The engine of delegraph: model, graph, ops, abi, devices, runtime (each imports only from its left).

Imports no delegate and no partitioner. See ARCHITECTURE.md.
"""

if __name__ != "delegraph.core":
    raise ImportError(f"import delegraph.core, not {__name__}")
