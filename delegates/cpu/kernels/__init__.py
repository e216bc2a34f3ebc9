"""Kernels: each module makes functions of one kind in LLVM IR. ``registry.FAMILIES`` lists them with examples."""
