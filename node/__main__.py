"""``python -m node run --home DIR``: the process that test networks and containers start.

The command line for people is ``securenet node run``; this entry takes the same way without the
libraries of the command line.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from chain.errors import SecureNetError
from node.home import Home, default_home
from node.keys import PASSPHRASE_VARIABLE
from node.logs import configure_logs
from node.process import run_node

EXIT_REFUSED: Final = 1


def main() -> int:
    """Run a node; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m node")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the node of a home directory")
    run.add_argument("--home", type=Path, default=default_home())
    arguments = parser.parse_args()
    status = 0
    try:
        configure_logs(Home(arguments.home).load_config().log)
        passphrase = os.environ.get(PASSPHRASE_VARIABLE)
        asyncio.run(run_node(arguments.home, passphrase=passphrase))
    except* (SecureNetError, OSError) as errors:
        # An OSError: the port to listen on is taken, or the address is not this machine's.
        for error in _leaves(errors):
            sys.stderr.write(f"error: {error}\n")
        status = EXIT_REFUSED
    return status


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    sys.exit(main())
