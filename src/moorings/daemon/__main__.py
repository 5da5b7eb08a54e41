"""`python -m moorings.daemon`."""

import sys

from moorings.daemon.process import main

if __name__ == "__main__":
    sys.exit(main())
