"""Following the chain block for block without its state.

Who has no state cannot execute a block. But each header names its parent and the miners of the
next height, a certificate shows that a quorum of these has agreed to it, and its roots show whether
transactions and receipts are those of the block. So one trusted header proves all that comes before
it, and all that follows.
"""

from collections.abc import Sequence

from chain.blocks import Header, transaction_root
from chain.certificate import CommitCertificate
from chain.errors import InvalidBlock
from chain.light_client import verify_header
from chain.merkle import merkle_root
from chain.miners import MinerSet
from chain.types import Digest


class History:
    """Stands at one header and follows the chain from there.

    Parameters
    ----------
    header : Header
        Where to begin.
    miners : MinerSet
        The set that it names for the next height.

    Raises
    ------
    InvalidBlock
        It names another set.
    """

    def __init__(self, header: Header, miners: MinerSet) -> None:
        _require(miners.hash == header.next_miner_set_hash, "it names other miners for the next")
        self.header = header
        self.miners = miners

    def follow(
        self,
        header: Header,
        certificate: CommitCertificate,
        *,
        next_miners: MinerSet | None,
        full_digests: Sequence[Digest] | None,
        receipt_leaves: Sequence[bytes] | None,
    ) -> None:
        """Go on to the next block.

        Parameters
        ----------
        next_miners : MinerSet, optional
            The set that the header names for the height after it; needed where it is another.
        full_digests, receipt_leaves : sequence, optional
            The leaves under its roots; None where nobody has them.

        Raises
        ------
        InvalidBlock, InvalidCertificate
            It does not follow, or something is not what it names; the history is as it was.
        """
        before = self.header
        _require(header.genesis_hash == before.genesis_hash, "it belongs to another chain")
        _require(header.height == before.height + 1, f"height {header.height} does not follow")
        _require(header.parent_hash == before.hash, "its parent is another block")
        _require(header.time_ms > before.time_ms, "its time is not after its parent's")
        _require(header.miner_set_hash == self.miners.hash, "it names another set of miners")
        verify_header(header, certificate, self.miners)
        if full_digests is not None:
            same = transaction_root(full_digests) == header.transaction_root
            _require(same, "these are not its transactions")
        if receipt_leaves is not None:
            same = merkle_root(receipt_leaves) == header.receipt_root
            _require(same, "these are not its receipts")
        if header.next_miner_set_hash != self.miners.hash:
            is_named = next_miners is not None and next_miners.hash == header.next_miner_set_hash
            _require(is_named, "the miners that it names for the next height are missing")
            assert next_miners is not None, "it is named"
            self.miners = next_miners
        self.header = header


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise InvalidBlock(reason, code="invalid_block")
