"""The process that runs scripts on LiteRT: ``python -m tests.interpreter.twin_child``. Imports nothing of delegraph.

Pickled on stdin: (name of a script, Models), again and again; pickled on stdout: its transcript.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
from types import SimpleNamespace

from ai_edge_litert import interpreter as litert
from tests.interpreter.transcript import run


def main() -> None:
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever LiteRT prints goes to the log
    module = SimpleNamespace(
        Interpreter=functools.partial(
            litert.Interpreter, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
        ),
        OpResolverType=litert.OpResolverType,
        SignatureRunner=litert.SignatureRunner,
        load_delegate=litert.load_delegate,
    )
    while True:
        try:
            name, models = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(run(name, module, models), replies)
        replies.flush()


if __name__ == "__main__":
    main()
