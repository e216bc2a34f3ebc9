"""The commands, one module each: ``command`` in ``x_y.py`` is ``delegraph x-y``."""
