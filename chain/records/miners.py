"""What the state holds of miners: who they are, who decides, who is passed over or convicted."""

from dataclasses import dataclass
from typing import Final

from chain.certificate import STATEMENT_TYPES
from chain.fields import ADDRESS, DIGEST, HEIGHT, HOST, MINER_KEY, NAME, ROUND
from chain.miners import MINERS, MINERS_MAX, Miner
from chain.schema import Integer, ListOf, Optional, Record, Word
from chain.table import Table
from chain.types import Address, Digest, Height, PublicKey, Round

FORMER_KEYS_MAX: Final = 8
"""Replaced keys of one miner for whose heights evidence is still taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerKey:
    """A key that a miner had, and the last height whose messages it signed."""

    key: PublicKey
    until_height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerRecord:
    """An approved miner.

    Parameters
    ----------
    key : PublicKey
        Signs the miner's transactions, and its consensus messages from the height on at which the
        set of miners has it.
    node_key : PublicKey
        Authenticates the miner's node to its peers.
    status : {"active", "demoted", "removed"}
        Only an active miner proposes, judges and governs; a demoted one still votes on blocks.
    former_keys : tuple of FormerKey
        Ascending; those whose heights are too old for evidence go when the next one comes.
    """

    name: str
    key: PublicKey
    node_key: PublicKey
    host: str
    port: int
    status: str
    since_height: Height
    former_keys: tuple[FormerKey, ...] = ()

    def key_at(self, height: int) -> PublicKey:
        """Return the key that signs the miner's messages of `height`."""
        for former in self.former_keys:
            if height <= former.until_height:
                return former.key
        return self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerSets:
    """Who decides the coming heights.

    Parameters
    ----------
    current, next : tuple of Miner
        The sets of the next height and of the one after it.
    after : tuple of Miner or None
        The set of the height after these, while the block that changed it is executed.
    """

    current: tuple[Miner, ...]
    next: tuple[Miner, ...]
    after: tuple[Miner, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A miner that failed to propose and is passed over.

    Parameters
    ----------
    failures : int
        How often it was blamed; the penalty doubles with each.
    until_height : Height
        First height at which it is eligible again.
    """

    miner: Address
    failures: int
    until_height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """The table of rule 10, oldest first."""

    entries: tuple[Passed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A block of this chain by which a candidate shows how far it has come."""

    block_hash: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRecord:
    """Of what a miner was convicted last.

    Parameters
    ----------
    type : str
        Which type of message it signed twice at `height` and `round`.
    digest : Digest
        Of both statements; see `chain.kinds.evidence.evidence_digest`.
    transaction : Digest
        Id of the transaction that holds the proof.
    reporter : Address
        The miner that sent it.
    accepted_height : Height
        The block in which it stands.
    pardoned_height : Height or None
        The block in which the miners have voted it back; what it signed at heights up to this does
        not count any more.
    """

    type: str
    height: Height
    round: Round
    digest: Digest
    transaction: Digest
    reporter: Address
    accepted_height: Height
    pardoned_height: Height | None


MINER_TABLE: Final = Table(
    b"miner/",
    Record(
        MinerRecord,
        name=NAME,
        key=MINER_KEY,
        node_key=MINER_KEY,
        host=HOST,
        port=Integer(1, 65_535),
        status=Word("active", "demoted", "removed"),
        since_height=HEIGHT,
        former_keys=ListOf(Record(FormerKey, key=MINER_KEY, until_height=HEIGHT), FORMER_KEYS_MAX),
    ),
)
MINER_SETS: Final = Table(
    b"miner-sets", Record(MinerSets, current=MINERS, next=MINERS, after=Optional(MINERS))
)
PASSED_OVER: Final = Table(
    b"passed-over",
    Record(
        PassedOver,
        entries=ListOf(
            Record(Passed, miner=ADDRESS, failures=Integer(1, 64), until_height=HEIGHT),
            MINERS_MAX,
        ),
    ),
)
ANCHOR_TABLE: Final = Table(b"anchor/", Record(Anchor, block_hash=DIGEST))
EVIDENCE_TABLE: Final = Table(
    b"evidence/",
    Record(
        EvidenceRecord,
        type=Word(*STATEMENT_TYPES),
        height=HEIGHT,
        round=ROUND,
        digest=DIGEST,
        transaction=DIGEST,
        reporter=ADDRESS,
        accepted_height=HEIGHT,
        pardoned_height=Optional(HEIGHT),
    ),
)
