"""The OpDefs, one module a family; each has ``OPS``. Put a new module here and its ops are known everywhere."""
