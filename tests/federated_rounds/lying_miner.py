"""A miner that says a made-up aggregate: ``python lying_miner.py python -P -m node run …``."""

import sys

from chain.federated.records import FederatedRound
from chain.types import DIGEST_SIZE, Digest
from node.__main__ import main
from node.round_work import RoundWork


async def _lie(self: RoundWork, found: FederatedRound) -> bool:
    """Make a root up, at once: so its vote is on the chain before the others have a quorum."""
    self._root = Digest(b"\x66" * DIGEST_SIZE)
    return True


if __name__ == "__main__":
    RoundWork._compute = _lie  # type: ignore[method-assign]  # it is what this program is for
    sys.argv = sys.argv[sys.argv.index("node") :]
    sys.exit(main())
