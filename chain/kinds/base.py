"""What a transaction kind is: who signs it, what its body holds, what it does."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

from chain.blocks import Event
from chain.errors import Rejection
from chain.limits import RateLimits
from chain.lookback import OpenBlock
from chain.miners import MinerSet
from chain.parameters import Parameters
from chain.schema import Record
from chain.state import Overlay, View
from chain.transactions import Transaction
from chain.types import Address, Digest, Height, PublicKey, TimestampMs

BODY_ITEMS_MAX: Final = 256
"""No body holds a longer list; longer data are byte strings."""


class Signer(StrEnum):
    """In whose name a kind is sent."""

    DEVICE = "device"
    REGISTRAR = "registrar"
    MINER = "miner"


class Lane(IntEnum):
    """The order of kinds in the pool and within a block."""

    GOVERNANCE = 0
    REGISTRY = 1
    VERDICT = 2
    TELEMETRY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A transaction that passed steps 1 to 6 of Algorithm 1.

    Parameters
    ----------
    kind : Kind
        Its kind, whose own rules come next.
    subjects : tuple of Address
        Whom step 7 charges: the device, its organisation and its gateway; or the registrar.
    """

    kind: "Kind"
    subjects: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a device stands in a block, whatever it sends: what steps 1 and 2 have found.

    Parameters
    ----------
    limits : tuple of (Address, RateLimits)
        The limits of all whom a transaction of the device is charged to.
    admitted : Admitted
        What comes of its transactions that pass.
    """

    key: PublicKey
    limits: tuple[tuple[Address, RateLimits], ...]
    admitted: Admitted


@dataclass(slots=True, kw_only=True)
class BlockContext:
    """What the rules of a transaction see of the block it stands in.

    Parameters
    ----------
    parent_hash : Digest
        Hash of the block before.
    proposer : Address
        The miner M of Algorithm 1: the block's proposer, or this node at admission.
    miners : MinerSet
        The set that decides this height.
    committed : View
        The state before the block.
    state : Overlay
        The state as the earlier transactions of the block left it; rules write here.
    recent : OpenBlock
        The look-back.
    standings : dict
        The standings of devices by kind and sender, found once; whoever changes `state` clears it.
    """

    genesis_hash: Digest
    height: Height
    time_ms: TimestampMs
    parent_hash: Digest
    proposer: Address
    miners: MinerSet
    parameters: Parameters
    committed: View
    state: Overlay
    recent: OpenBlock
    standings: dict[tuple[str, Address], Standing]


Apply = Callable[[Any, Transaction, BlockContext], tuple[Event, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of transaction.

    Parameters
    ----------
    body : Record
        Schema of the body.
    apply : callable or None
        ``apply(body, transaction, block) -> events``. Checks the rules of the kind, writes to
        ``block.state`` and returns what happened; raises `Rejection` where a rule is broken,
        whereupon all it wrote is dropped. None for pure data, with no rules and no effect.
    metered : bool
        Whether the device steps of Algorithm 1 hold: the registry and the rate limits.
    check : callable, optional
        ``check(body, view, block)`` for kinds that open a governance proposal: raises `Rejection`
        where the change is not possible, and no waiting makes it so.
    must_wait : callable, optional
        ``must_wait(body, block)`` for those of them that cannot be enacted at any time: tells
        whether an earlier change is in the way, which passes by itself.
    enact : callable, optional
        ``enact(body, block) -> events`` for these kinds: does what was agreed on.
    """

    name: str
    signer: Signer
    lane: Lane
    body: Record[Any]
    apply: Apply | None
    body_size_max: int = 1024
    metered: bool = False
    check: Callable[[Any, View, BlockContext], None] | None = None
    must_wait: Callable[[Any, BlockContext], bool] | None = None
    enact: Callable[[Any, BlockContext], tuple[Event, ...]] | None = None

    def decode(self, transaction: Transaction) -> Any:
        """Return the body of a transaction of this kind; raises `DecodeError`."""
        return transaction.body(self.decode_bytes)

    def decode_bytes(self, data: bytes) -> Any:
        """Return the body of canonical bytes; raises `DecodeError`."""
        return self.body.decode(
            data,
            what=f"body of {self.name}",
            size_max=self.body_size_max,
            items_max=BODY_ITEMS_MAX,
        )


def require(condition: bool, code: str, detail: str) -> None:
    """Raise `Rejection` unless `condition` holds."""
    if not condition:
        raise Rejection(code, detail)
