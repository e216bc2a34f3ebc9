"""The delegate ABI in C, and whatever runs delegates that are not Python objects of this process.

``delegraph_delegate.h`` is the contract; ``loader`` makes a Delegate of a shared library; ``segment_model`` turns a
segment into a ``.tflite``; ``isolation`` runs any delegate in a child process; ``plugin`` makes a Delegate of where it
is written. Imports core up to ops.
"""
