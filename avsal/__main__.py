"""`python -m avsal`, which the command `avsal` runs too."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command; Ctrl-C while it is being loaded is no traceback either."""
    try:
        from avsal.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
