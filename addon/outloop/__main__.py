"""`python -m outloop`: the same as `outloop`."""

from __future__ import annotations

import sys

from outloop.cli.main import main

sys.exit(main())
