"""The command line: `moorings-server --entry-script score.py` (standalone), or `--worker` (one process, told
by its environment what to do)."""

import os
import sys

if sys.path and sys.path[0] in ("", os.getcwd()):
    # `python -m` puts the working directory first, and that is the folder of user code: a script's neighbour
    # named like a standard module must not be imported by this server. The script's own folder is added
    # later.
    del sys.path[0]


def main() -> int:
    """Entry point of `moorings-server`; returns the exit code."""
    from moorings_server import commandline

    return commandline.main(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
