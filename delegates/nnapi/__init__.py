"""The emulated accelerator: one device per profile of devices.yaml. Imports delegraph.core only."""

from delegraph.delegates.nnapi.delegate import NnapiDelegate

__all__ = ["NnapiDelegate"]
