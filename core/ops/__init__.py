"""OpDefs: every operator declared once, with its reference kernels. Imports core.model and core.graph."""
