"""Whether a block that a peer has sent is the one that a quorum has committed."""

from chain.blocks import transaction_root
from chain.errors import InvalidBlock
from chain.light_client import verify_header
from chain.state import miner_sets_of
from chain.transition import Execution
from consensus.errors import SafetyViolation
from node.block_maker import BlockMaker
from node.block_sync import FetchedBlock
from node.storage.chain_store import ChainStore


async def check_fetched(fetched: FetchedBlock, chain: ChainStore, maker: BlockMaker) -> Execution:
    """Check certificate and block; a candidate of this node was executed already.

    Only the one task that moves the chain on may ask.

    Raises
    ------
    InvalidBlock, InvalidCertificate
        The peer sent something else than a committed block.
    SafetyViolation
        A quorum has committed what this node finds invalid.
    """
    header = fetched.block.header
    if header.height != chain.height + 1:
        raise InvalidBlock(f"height {header.height} does not follow {chain.height}")
    if header.genesis_hash != chain.genesis.hash:
        # Miners may use their keys on two chains: a certificate there proves nothing here.
        raise InvalidBlock("it belongs to another chain")
    miners, _ = miner_sets_of(chain.state)
    verify_header(header, fetched.certificate, miners)
    digests = [transaction.digest for transaction in fetched.block.transactions]
    if transaction_root(digests) != header.transaction_root:
        raise InvalidBlock("these are not the transactions of the committed block")
    try:
        execution = await maker.execute(fetched.block)
    except InvalidBlock as error:
        # Header and transactions are the quorum's own, whoever sent them.
        raise SafetyViolation(
            f"a quorum committed an invalid block at {header.height}: {error}"
        ) from error
    assert execution is not None, "only this task moves the chain on"
    return execution
