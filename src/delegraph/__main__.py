"""``python -m delegraph``: the command line."""

from __future__ import annotations

import sys

from delegraph.cli import main

sys.exit(main())
