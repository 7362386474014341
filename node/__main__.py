"""``python -m node run --home DIR``: the process that test networks and containers start.

The command line for people is ``securenet node run``; this entry takes the same way, and ends in
the same way, without the libraries of the command line.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from chain.errors import SecureNetError
from node.exit_codes import NodeExit, error_text, explain
from node.home import Home, default_home
from node.keys import PASSPHRASE_VARIABLE
from node.logs import configure_logs
from node.process import run_node


def main() -> NodeExit:
    """Run a node; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m node")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the node of a home directory")
    run.add_argument("--home", type=Path, default=default_home())
    arguments = parser.parse_args()
    try:
        configure_logs(Home(arguments.home).load_config().log)
        passphrase = os.environ.get(PASSPHRASE_VARIABLE)
        asyncio.run(run_node(arguments.home, passphrase=passphrase))
    except KeyboardInterrupt:
        return NodeExit.INTERRUPTED
    except (SecureNetError, OSError) as error:
        code, what, advice = explain(error)
        sys.stderr.write(error_text(what, advice))
        return code
    return NodeExit.OK


if __name__ == "__main__":
    sys.exit(main())
