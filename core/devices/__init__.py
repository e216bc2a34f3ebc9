"""Device profiles and machines (devices.yaml), and what a profile takes. Imports core up to abi.

Nothing is read before ``load`` is called, and its modules are imported then.
"""

from delegraph.core.devices.locate import ENVIRONMENT, load, paths, use

__all__ = ["ENVIRONMENT", "load", "paths", "use"]
