"""Which op runs on which device: segments and the placement record. Imports delegraph.core up to devices."""

if __name__ != "delegraph.partitioner":
    raise ImportError(f"import delegraph.partitioner, not {__name__}")
