"""The best split of a graph, over plain numbers: knows nothing of models, devices or records. Imports core.abi's values
and partitioner.schedule.

``problem`` is what is asked, ``solve`` the way in: minima of ``surrogate`` (by ``elimination``, or ``ilp`` over
``linear``) become ``candidates``, are judged by ``true_cost`` and made better by ``improve``; ``flips`` says what would
move an op.
"""
