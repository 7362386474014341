"""Whether an archive is true: each block follows from genesis, or from a header that is trusted.

Certificates of the miners, the chain of parents and the roots prove an archive of any heights. One
that begins with block 1 is executed as well, and each root of its state compared.
"""

from typing import Final

from chain import codec
from chain.archive import ArchivedBlock, Begin, End
from chain.blocks import BLOCK_TRANSACTIONS_MAX, Block, Header, decode_header
from chain.certificate import CommitCertificate
from chain.errors import (
    DecodeError,
    InvalidArchive,
    InvalidBlock,
    InvalidCertificate,
    InvalidGenesis,
    WrongChain,
)
from chain.genesis import (
    GENESIS,
    Genesis,
    decode_genesis,
    genesis_header,
    genesis_miners,
    genesis_state,
)
from chain.history import History
from chain.lookback import Lookback
from chain.miners import MinerSet, decode_miners
from chain.state import MemorySource, State
from chain.transition import Tip, advance, check_block
from chain.types import Digest

_RECEIPTS_SIZE_MAX: Final = 512 * 1024 * 1024
_RECEIPTS_VALUES_MAX: Final = 2**24


class ArchiveCheck:
    """Takes the frames of an archive in their order and refuses what does not follow.

    Parameters
    ----------
    genesis : Genesis, optional
        The chain that it must be of; by default the one that it says.
    trusted : Digest, optional
        Hash of a header that must stand in it, or of the genesis document it begins with. It
        proves those before it as their descendant, and those after it by the miners that it names.
        An archive that does not begin with block 1 needs one.
    execute : bool
        Whether to execute the blocks where the archive begins with block 1.

    Attributes
    ----------
    header : Header
        The last one that was taken.
    is_executed : bool
        Whether the states are proven too.
    """

    def __init__(
        self,
        begin: Begin,
        *,
        genesis: Genesis | None = None,
        trusted: Digest | None = None,
        execute: bool = True,
    ) -> None:
        if genesis is not None and begin.genesis != GENESIS.encode(genesis):
            raise WrongChain("the archive is of another chain")
        try:
            self.genesis = genesis or decode_genesis(begin.genesis)
        except (DecodeError, InvalidGenesis) as error:
            raise InvalidArchive(0, str(error)) from error
        self._trusted = trusted
        self._count = 0
        source = MemorySource(genesis_state(self.genesis))
        state = State(source)
        first = genesis_header(self.genesis, state.root)
        try:
            parent, miners = decode_header(begin.parent), decode_miners(begin.miners)
            self._history = History(parent, miners)
        except (DecodeError, InvalidBlock) as error:
            raise InvalidArchive(begin.first - 1, str(error)) from error
        if parent.height != begin.first - 1 or parent.genesis_hash != first.genesis_hash:
            raise InvalidArchive(begin.first - 1, "the header before the first block is another's")
        begins_the_chain = begin.first == 1
        if begins_the_chain and (parent != first or miners != genesis_miners(self.genesis)):
            raise InvalidArchive(0, "not the block that the genesis document gives")
        if not begins_the_chain and trusted is None:
            raise InvalidArchive(
                begin.first,
                "the archive begins there, and nothing is known to trust it by: give the hash of "
                "one of its blocks",
            )
        known = (None, parent.hash, self.genesis.hash if begins_the_chain else None)
        self._has_trusted = trusted in known
        self.is_executed = execute and begins_the_chain
        self._source = source
        self._tip = Tip(header=first, state=state, recent=Lookback())

    @property
    def header(self) -> Header:
        """The last header that was taken."""
        return self._history.header

    def take(self, archived: ArchivedBlock) -> tuple[Block, CommitCertificate]:
        """Check the next block and return it.

        Raises
        ------
        InvalidArchive
            It does not follow, or a part of it is not what its header names.
        """
        height = self.header.height + 1
        try:
            block, certificate = archived.decode()
            miners = _miners(archived)
            self._history.follow(
                block.header,
                certificate,
                next_miners=miners,
                full_digests=[transaction.digest for transaction in block.transactions],
                receipt_leaves=_leaves(archived.receipts),
            )
            if self.is_executed:
                execution = check_block(self._tip, block, lambda transaction, key: True)
                self._source.apply(execution.delta)
                self._tip = advance(self._tip, execution)
        except (DecodeError, InvalidBlock, InvalidCertificate) as error:
            raise InvalidArchive(height, str(error)) from error
        self._has_trusted = self._has_trusted or block.header.hash == self._trusted
        self._count += 1
        return block, certificate

    def end(self, end: End) -> None:
        """Check the last frame.

        Raises
        ------
        InvalidArchive
            It speaks of other blocks, or the trusted header was none of them.
        """
        if (end.count, end.tip) != (self._count, self.header.hash):
            raise InvalidArchive(self.header.height, "the archive ends with another block")
        if not self._has_trusted:
            raise InvalidArchive(self.header.height, "no block of it has the trusted hash")


def _miners(archived: ArchivedBlock) -> MinerSet | None:
    return None if archived.next_miners is None else decode_miners(archived.next_miners)


def _leaves(receipts: bytes) -> list[bytes]:
    items = codec.decode(
        receipts,
        what="receipts",
        size_max=_RECEIPTS_SIZE_MAX,
        items_max=BLOCK_TRANSACTIONS_MAX + 1,
        values_max=_RECEIPTS_VALUES_MAX,
    )
    return [codec.encode(item) for item in items]
