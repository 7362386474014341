"""What a node offers to those who ask it: the RPC, and whoever embeds a node.

The RPC depends on this page alone, and `node.service.Node` implements it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from chain.blocks import Receipt
from chain.errors import SecureNetError
from chain.genesis import Genesis
from chain.transactions import Transaction
from chain.types import Address, Digest
from consensus.snapshot import Snapshot
from node.blobs.store import BlobStore
from node.diagnosis import Diagnosis
from node.metrics import Metrics
from node.storage.chain_store import ChainStore

if TYPE_CHECKING:
    # It brings numpy, and commands that never ask for it load this module too.
    from node.behaviour_service import Watched


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """How a node is doing.

    Parameters
    ----------
    syncing : bool
        Whether peers are known to be ahead.
    peers : tuple of Address
        Node ids of the peers with a standing session.
    highest_seen : int
        The highest committed height that peers have told of, as far as one of them is honest.
    has_heard : bool
        Whether a weak quorum of the miners has told since the start how far it is.
    """

    node_id: Address
    miner_id: Address | None
    round: int
    syncing: bool
    peers: tuple[Address, ...]
    mempool_transactions: int
    mempool_bytes: int
    highest_seen: int
    has_heard: bool
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What became of one submitted transaction.

    Parameters
    ----------
    id : Digest or None
        None where the bytes are no transaction.
    error : SecureNetError or None
        None when it is pooled (not yet final): a `DecodeError`, a `Rejection` by Algorithm 1 or a
        kind's rules, or a `MempoolFull`.
    """

    id: Digest | None
    error: SecureNetError | None

    def __post_init__(self) -> None:
        """Take from the error what it has passed through.

        A traceback holds the frames of all callers, and those hold the answer: a circle that keeps
        a whole batch in memory until somebody looks for circles, which a node seldom does.
        """
        error = self.error
        if error is not None:
            error.__traceback__ = error.__context__ = error.__cause__ = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionStatus:
    """Where a transaction is in its life.

    Parameters
    ----------
    status : {"pending", "committed", "rejected", "expired", "unknown"}
        As documented in the RPC.
    code, detail : str or None
        Why it was rejected.
    """

    status: str
    transaction: Transaction | None = None
    height: int | None = None
    receipt: Receipt | None = None
    code: str | None = None
    detail: str | None = None


ModelState = Literal["ready", "missing", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStanding:
    """How a model that judges, or may, stands at one miner.

    Parameters
    ----------
    state : {"ready", "missing", "refused"}
        A missing one is still asked for; a refused one is no model, or not the one registered.
    reason : str or None
        Why it is not ready.
    """

    state: ModelState
    reason: str | None


class NodeApi(Protocol):
    """A running node."""

    @property
    def genesis(self) -> Genesis:
        """The chain's genesis document."""
        ...

    @property
    def chain(self) -> ChainStore:
        """Committed blocks and state, for reading."""
        ...

    @property
    def blobs(self) -> BlobStore:
        """The blobs that are held here."""
        ...

    @property
    def metrics(self) -> Metrics:
        """The node's metrics."""
        ...

    def status(self) -> NodeStatus:
        """Return how the node is doing."""
        ...

    def consensus(self) -> Snapshot | None:
        """Return what consensus waits for; None before the first height has begun."""
        ...

    def diagnosis(self) -> Diagnosis | None:
        """Return why the chain does not go on; None before the first height has begun."""
        ...

    def monotonic_ns(self) -> int:
        """Return the node's monotonic clock, in which `consensus` speaks."""
        ...

    def time_ms(self) -> int:
        """Return the node's wall clock."""
        ...

    def models(self) -> Mapping[Digest, ModelStanding]:
        """Return how the models that judge, or may, stand here; none where nothing is judged."""
        ...

    async def submit(self, transactions: Sequence[bytes]) -> Sequence[Submission]:
        """Admit transactions given in their canonical bytes; one result each, in order."""
        ...

    async def behaviour(self, device: Address, group: Address) -> "Watched | None":
        """Return how a device of a group behaves; None where the node does not watch."""
        ...

    def transaction(self, id: Digest) -> TransactionStatus:
        """Return where a transaction is in its life."""
        ...

    async def wait_transaction(self, id: Digest, timeout_ms: int) -> TransactionStatus:
        """Return the status once the transaction is no longer pending, or when time is up."""
        ...

    async def wait_height(self, height: int) -> None:
        """Return once block `height` is committed here."""
        ...
