"""`python -m estimator_spec_ext` is `estimator-preflight`."""

from __future__ import annotations

import sys

from estimator_spec_ext.cli import main

if __name__ == '__main__':
    sys.exit(main())
