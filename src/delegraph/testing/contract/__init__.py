"""The contract suite: every rule that a delegate has to keep, as a check that tries to see it broken.

>>> from delegraph.testing.contract import examine
>>> [finding for finding in examine("reference") if finding.outcome == "failed"]    # doctest: +SKIP
[]

``examine`` works from outside, in a child process that may crash; ``run`` makes the checks in this process, on a
Delegate object. On the command line it is ``delegraph check-delegate``; docs/writing-a-delegate.md lists the rules.
"""

from delegraph.testing.contract.check import Check, all_checks
from delegraph.testing.contract.finding import Finding
from delegraph.testing.contract.runner import run
from delegraph.testing.contract.supervisor import examine

__all__ = ["Check", "Finding", "all_checks", "examine", "run"]
