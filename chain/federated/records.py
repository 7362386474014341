"""What the state holds of federated rounds."""

from dataclasses import dataclass, replace
from typing import Final

from chain.blobs import digest_of_root
from chain.fields import ADDRESS, DIGEST, HEIGHT, NAME
from chain.miners import MINERS_MAX
from chain.schema import Blob, Integer, ListOf, Optional, Record, Word
from chain.table import Table
from chain.types import Address, Digest, Height

PARTICIPANTS_MAX: Final = 256
GROUP_SIZE_MAX: Final = 32
"""The largest groups that can be asked for."""
GROUP_MEMBERS_MAX: Final = 2 * GROUP_SIZE_MAX - 1
"""Groups are drawn of at least the size asked for, and of less than twice as many."""
MASKED_GROUP_SIZE_MIN: Final = 3
"""In a sum of two each knows the other's part."""
PARAMETER_BYTES: Final = 8
PARAMETERS_MAX: Final = 2**20
ROUND_PARAMETERS_MAX: Final = 2**25
"""Parameters times participants: the updates of one round have at most 256 MiB together."""
OPEN_ROUNDS_MAX: Final = 8
ORGANISATION_ROUNDS_MAX: Final = 2
"""Rounds that one organisation may have open, so that it leaves room to others."""
CLOSED_ROUNDS_MAX: Final = 64
"""Closed rounds that stay in the state; the oldest goes. Blocks and receipts keep them all."""
ROUND_HEIGHTS_MAX: Final = 20_000
"""From the opening of a round to its last deadline."""
ROUND_HEARTBEAT_MS: Final = 1_000
"""While a round is open an idle chain makes a block so often: its deadlines are heights."""

X25519_KEY_SIZE: Final = 32
SHARE_SIZE: Final = 32
SHARE_HASH_SIZE: Final = 16
"""An owner that finds two shares with one hash gains nothing by it: docs/adr/0025."""
BOX_SIZE: Final = 2 * SHARE_SIZE
"""What leads to the shares of both secrets."""

RULES: Final = ("mean", "median", "trimmed_mean", "multi_krum")
OPEN_PHASES: Final = ("join", "draw", "share", "commit", "attest", "reveal", "aggregate")
CLOSED_PHASES: Final = ("finished", "failed", "aborted")
PHASES: Final = (*OPEN_PHASES, *CLOSED_PHASES)
STATUSES: Final = (
    "invited",
    "joined",
    "shared",
    "committed",
    "included",
    "withheld",
    "complained",
    "expelled",
)
REASONS: Final = ("too_few_joined", "too_few_groups", "no_aggregate")


def threshold(size: int) -> int:
    """Return t: how many members of a group of `size` restore what one of them has shared."""
    return 2 * size // 3 + 1 if size > 1 else 1


def box_count(size: int) -> int:
    """Return for how many others of a group of `size` a member has boxes."""
    return size - threshold(size)


def groups_needed(rule: str, tolerated: int) -> int:
    """Return among how many groups a rule withstands so many spoiled ones, of which a mean none.

    References
    ----------
    Median and trimmed mean: Yin et al., ICML 2018. Multi-Krum: Blanchard et al., NeurIPS 2017.
    """
    beyond = {
        "mean": PARTICIPANTS_MAX if tolerated else 1,
        "median": 1,
        "trimmed_mean": 1,
        "multi_krum": 3,
    }
    return 2 * tolerated + beyond[rule]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """The last height of each phase; one in which nothing is left to wait for ends before."""

    join: Height
    share: Height
    commit: Height
    attest: Height
    reveal: Height
    aggregate: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What everybody who takes part in a round agrees to.

    Parameters
    ----------
    base : Digest
        Of the model that all train from; an update names it.
    parameter_count : int
        An update is a blob of so many times 8 bytes.
    scale_bits : int
        A parameter is a real number times 2^scale_bits.
    clip : int
        Bound of an update's norm before it is weighted, in these units.
    group_size : int
        Masked groups have at least so many members; 1 is the audit mode, without masks.
    groups_min : int
        With fewer groups left the round fails.
    rule : {"mean", "median", "trimmed_mean", "multi_krum"}
        How the sums of the groups are joined.
    tolerated : int
        How many spoiled groups the rule is to withstand.
    """

    name: str
    base: Digest
    parameter_count: int
    scale_bits: int
    clip: int
    group_size: int
    groups_min: int
    rule: str
    tolerated: int
    deadlines: Deadlines

    @property
    def is_masked(self) -> bool:
        """Whether single updates are hidden."""
        return self.group_size > 1

    @property
    def update_size(self) -> int:
        """Bytes of an update, and of the aggregate."""
        return PARAMETER_BYTES * self.parameter_count

    def blob_of(self, root: Digest) -> Digest:
        """Return the digest of the blob of an update's size with this Merkle root."""
        return digest_of_root(self.update_size, root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A participant of a round.

    Parameters
    ----------
    weight : int
        Its update is multiplied by this before it is masked.
    steps : int
        Local steps that it is asked to make.
    status : str
        How far it has come: `invited`, `joined`, `shared`, `committed`; then `included`, or
        `withheld` where too few miners hold its update. `complained`: it has shown that somebody
        cheated it, at the price of its own part; `expelled`: it was shown to have cheated.
    mask_key, box_key : bytes or None
        Its X25519 keys for this round. They are two: the secret of the first becomes known when
        the member drops out, and must not open the boxes with the shares of its other secret.
    group : int or None
        The group into which it was drawn.
    update : Digest or None
        Its update as a blob.
    """

    device: Address
    weight: int
    steps: int
    status: str = "invited"
    mask_key: bytes | None = None
    box_key: bytes | None = None
    group: int | None = None
    update: Digest | None = None

    @property
    def has_joined(self) -> bool:
        """Whether it takes part."""
        return self.mask_key is not None

    @property
    def has_shared(self) -> bool:
        """Whether the others of its group hold shares of its secrets."""
        return self.status not in ("invited", "joined")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """Which updates a miner holds and finds sound: bit i of a big-endian integer is member i."""

    miner: Address
    held: bytes

    def holds(self, position: int) -> bool:
        """Tell whether it says so of the member at `position`."""
        return bool(int.from_bytes(self.held, "big") >> position & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateVote:
    """What a miner has computed."""

    miner: Address
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedRound:
    """A federated round; its id is that of the transaction which opened it.

    Parameters
    ----------
    coordinator : Address
        The organisation that opened it.
    phase_height : Height
        The block at whose end the phase began.
    members : tuple of Member
        Ascending by device.
    void, revealed : tuple of int
        Groups that count no more, and groups whose masks are known; ascending.
    attestations, votes : tuple
        By the miners; members of the set only.
    aggregate : Digest or None
        What a quorum has computed.
    reason : str or None
        Why it failed.
    """

    coordinator: Address
    terms: Terms
    opened_height: Height
    phase: str
    phase_height: Height
    members: tuple[Member, ...]
    void: tuple[int, ...] = ()
    revealed: tuple[int, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    votes: tuple[AggregateVote, ...] = ()
    aggregate: Digest | None = None
    reason: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen to it."""
        return self.phase in OPEN_PHASES

    @property
    def deadline(self) -> Height | None:
        """The last height of the phase it is in; None where it has none."""
        return getattr(self.terms.deadlines, self.phase, None)

    @property
    def groups(self) -> tuple[int, ...]:
        """The groups that count."""
        drawn = {member.group for member in self.members if member.group is not None}
        return tuple(sorted(drawn.difference(self.void)))

    def position_of(self, device: Address) -> int | None:
        """Return the place of a device among the members, or None."""
        for position, member in enumerate(self.members):
            if member.device == device:
                return position
        return None

    def members_of(self, group: int | None) -> tuple[Member, ...]:
        """Return who was drawn into a group; shares are numbered in this order."""
        return tuple([member for member in self.members if member.group == group])

    def with_member(self, position: int, member: Member) -> "FederatedRound":
        """Return the round with one member changed."""
        members = (*self.members[:position], member, *self.members[position + 1 :])
        return replace(self, members=members)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesRecord:
    """What a member has handed to the others of its group.

    Parameters
    ----------
    hashes : bytes
        For each member in order, itself included, the hashes of its share of the self mask and of
        its share of the key.
    boxes : bytes
        For each of the others in order, behind those whose shares are their pads, what leads from
        the pads to the two shares.
    """

    hashes: bytes
    boxes: bytes

    def hash_of(self, place: int, kind: int) -> bytes:
        """Return the hash of the share of a kind that the member at `place` was handed."""
        start = SHARE_HASH_SIZE * (2 * place + kind)
        return self.hashes[start : start + SHARE_HASH_SIZE]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealRecord:
    """The shares that a member has revealed, one for each member of the group that has shared.

    Parameters
    ----------
    shares : tuple of bytes or None
        In the order of their owners; None where it has none that is right.
    """

    shares: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundIds:
    """Ids of rounds, oldest first."""

    ids: tuple[Digest, ...]


_GROUPS: Final = ListOf(Integer(0, PARTICIPANTS_MAX - 1), PARTICIPANTS_MAX)
HELD: Final = Blob(1, PARTICIPANTS_MAX // 8)
WEIGHT: Final = Integer(1, 2**20)
STEPS: Final = Integer(1, 10_000)
X25519_KEY: Final = Blob(X25519_KEY_SIZE)

TERMS: Final = Record(
    Terms,
    name=NAME,
    base=DIGEST,
    parameter_count=Integer(1, PARAMETERS_MAX),
    scale_bits=Integer(0, 48),
    clip=Integer(1, 2**62),
    group_size=Integer(1, GROUP_SIZE_MAX),
    groups_min=Integer(1, PARTICIPANTS_MAX),
    rule=Word(*RULES),
    tolerated=Integer(0, PARTICIPANTS_MAX // 2),
    deadlines=Record(
        Deadlines,
        join=HEIGHT,
        share=HEIGHT,
        commit=HEIGHT,
        attest=HEIGHT,
        reveal=HEIGHT,
        aggregate=HEIGHT,
    ),
)
SHARES: Final = {
    "hashes": Blob(2 * SHARE_HASH_SIZE, 2 * SHARE_HASH_SIZE * GROUP_MEMBERS_MAX),
    "boxes": Blob(0, BOX_SIZE * box_count(GROUP_MEMBERS_MAX)),
}
"""Schemas of what a member hands to the others, in the transaction as in the state."""
REVEALED: Final = ListOf(Optional(Blob(SHARE_SIZE)), GROUP_MEMBERS_MAX, minimum=1)

ROUND_TABLE: Final = Table(
    b"round/",
    Record(
        FederatedRound,
        coordinator=ADDRESS,
        terms=TERMS,
        opened_height=HEIGHT,
        phase=Word(*PHASES),
        phase_height=HEIGHT,
        members=ListOf(
            Record(
                Member,
                device=ADDRESS,
                weight=WEIGHT,
                steps=STEPS,
                status=Word(*STATUSES),
                mask_key=Optional(X25519_KEY),
                box_key=Optional(X25519_KEY),
                group=Optional(Integer(0, PARTICIPANTS_MAX - 1)),
                update=Optional(DIGEST),
            ),
            PARTICIPANTS_MAX,
            minimum=1,
        ),
        void=_GROUPS,
        revealed=_GROUPS,
        attestations=ListOf(Record(Attestation, miner=ADDRESS, held=HELD), MINERS_MAX),
        votes=ListOf(Record(AggregateVote, miner=ADDRESS, digest=DIGEST), MINERS_MAX),
        aggregate=Optional(DIGEST),
        reason=Optional(Word(*REASONS)),
    ),
)
SHARES_TABLE: Final = Table(b"round-shares/", Record(SharesRecord, **SHARES))
"""By round and device, while the round is open."""
REVEAL_TABLE: Final = Table(b"round-reveal/", Record(RevealRecord, shares=REVEALED))
"""By round and device, while the round is open."""
OPEN_ROUNDS: Final = Table(b"open-rounds", Record(RoundIds, ids=ListOf(DIGEST, OPEN_ROUNDS_MAX)))
CLOSED_ROUNDS: Final = Table(
    b"closed-rounds", Record(RoundIds, ids=ListOf(DIGEST, CLOSED_ROUNDS_MAX))
)
