"""``python -m node run --home DIR``: the process that test networks and containers start.

The command line for people is ``securenet node run``; this entry takes the same way, and ends in
the same way, without the libraries of the command line.
"""

import argparse
import asyncio
import os
import sys
import traceback
from pathlib import Path

from chain.errors import SecureNetError
from node.exit_codes import NodeExit, ended_text, error_text, explain
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
    code = _run(parser.parse_args().home)
    sys.stderr.write(ended_text(code))
    return code


def _run(home: Path) -> NodeExit:
    try:
        configure_logs(Home(home).load_config().log)
        asyncio.run(run_node(home, passphrase=os.environ.get(PASSPHRASE_VARIABLE)))
    except KeyboardInterrupt:
        return NodeExit.INTERRUPTED
    except (SecureNetError, OSError) as error:
        code, what, advice = explain(error)
        sys.stderr.write(error_text(what, advice))
        return code
    except Exception:
        # What nobody foresaw ends it with the code that Python would, and is told before the end.
        traceback.print_exc()
        return NodeExit.FAILED
    return NodeExit.OK


if __name__ == "__main__":
    sys.exit(main())
