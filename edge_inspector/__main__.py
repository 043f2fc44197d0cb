"""`python -m edge_inspector` is the same as `edge-inspector`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
