"""What the state holds: the record of each table, with its bytes and its JSON.

Adding a table is one entry here; docs/spec/state.md lists them all. Those of federated rounds are
made in `chain.federated.records`.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from chain.certificate import STATEMENT_TYPES
from chain.crypto import ED25519_KEY_SIZE, P256_KEY_SIZE
from chain.federated.records import (
    CLOSED_ROUNDS,
    OPEN_ROUNDS,
    REVEAL_TABLE,
    ROUND_TABLE,
    SHARES_TABLE,
)
from chain.limits import Limits, RateLimits, RateWindow
from chain.miners import MINERS, MINERS_MAX, Miner
from chain.parameters import PARAMETERS
from chain.payloads import NAME, NAME_SIZE_MAX
from chain.schema import Blob, Boolean, Integer, ListOf, Optional, Record, Text, Word
from chain.table import Table
from chain.transactions import BODY_SIZE_MAX, KIND_SIZE_MAX
from chain.types import (
    DIGEST_SIZE,
    HEIGHT_MAX,
    ROUND_MAX,
    TIME_MS_MAX,
    Address,
    Digest,
    Height,
    PublicKey,
    Round,
)

ROLES_MAX: Final = 4
ROLES: Final = ("sensor", "gateway", "participant")
RING_BITS: Final = 256
"""Upper bound of m, the judged flows that a quarantine policy looks back on."""
ACTIONS: Final = ("observe", "limit", "quarantine", "revoke")
"""What a policy can do with a device that crosses its line; all but the first are measures."""
APPEAL_TEXT_SIZE_MAX: Final = 256
MODEL_HISTORY_MAX: Final = 16
OPEN_PROPOSALS_MAX: Final = 128
"""Shared evenly by the miners, of whom there are at most `MINERS_MAX`."""
CLOSED_PROPOSALS_MAX: Final = 256
"""Closed proposals that stay in the state; the oldest goes. Blocks and receipts keep them all."""
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
class KeyRecord:
    """For what a key was first used, and so may be used at all.

    Parameters
    ----------
    role : {"miner", "node", "registrar"}
    owner : Address
        The miner, also of a node's key, or the organisation.
    """

    role: str
    owner: Address


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
class OrganisationRecord:
    """An organisation that owns devices.

    Parameters
    ----------
    registrar_key : PublicKey
        Signs in the organisation's name.
    limits : RateLimits
        What all its devices may send together.
    device_count, model_count : int
        What it has registered so far, revoked devices included.
    """

    name: str
    registrar_key: PublicKey
    limits: RateLimits
    active: bool
    device_count: int
    model_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """A registered device.

    Parameters
    ----------
    gateway : Address or None
        The device through which it sends; the gateway's limits hold for all behind it together.
    status : {"active", "suspended", "quarantined", "revoked"}
        As it was last set; a quarantine ends by itself at `quarantined_until_ms`.
    limited_until_ms : int
        Before this block time the limits of its organisation's policy hold for it as well.
    """

    organisation: Address
    name: str
    key: PublicKey
    roles: tuple[str, ...]
    gateway: Address | None
    limits: RateLimits
    status: str
    quarantined_until_ms: int
    limited_until_ms: int
    registered_height: Height
    key_height: Height

    def is_active(self, time_ms: int) -> bool:
        """Tell whether it may send at block time `time_ms`."""
        return self.status == "active" or (
            self.status == "quarantined" and time_ms >= self.quarantined_until_ms
        )

    def is_limited(self, time_ms: int) -> bool:
        """Tell whether the limits of the policy hold for it at block time `time_ms`."""
        return time_ms < self.limited_until_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecord:
    """What happens to an organisation's devices whose flows are anomalous too often.

    Parameters
    ----------
    action : {"observe", "limit", "quarantine", "revoke"}
        What follows when a device crosses the line. `observe` only says so; `limit` lets it go on
        under `limits`; `revoke` is for good.
    anomalous_min, window : int
        k and m: k anomalous among the last m judged flows cross the line.
    duration_ms : int
        How long a limit or a quarantine lasts unless it is released.
    limits : RateLimits
        Hold for a limited device besides its own.
    """

    action: str = "quarantine"
    anomalous_min: int = 30
    window: int = 100
    duration_ms: int = 3_600_000
    limits: RateLimits = (RateWindow(capacity=6, seconds=60),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuser:
    """A miner, and how many flows of a device that are anomalous it called so."""

    miner: Address
    flows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyRecord:
    """What the verdicts say of a device.

    Parameters
    ----------
    judged, anomalous : int
        Flows judged so far, and those of them found anomalous.
    ring : bytes
        The last `RING_BITS` flows judged while it was active as a big-endian integer; the lowest
        bit is the latest, 1 is anomalous. Cleared when it crosses the line.
    accusers : tuple of Accuser
        Who called how many of its anomalous flows so since the ring was cleared; members only.
    """

    judged: int
    anomalous: int
    ring: bytes
    accusers: tuple[Accuser, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Appeal:
    """What a device says against a measure.

    Parameters
    ----------
    transaction : Digest
        Id of its `device.appeal`.
    """

    transaction: Digest
    height: Height
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRecord:
    """The last measure that verdicts brought upon a device, and what came of it.

    Parameters
    ----------
    action : {"limit", "quarantine", "revoke"}
        What was done.
    height, until_ms : int
        The block in which it was done, and the block time at which it ends by itself; 0 is never.
    judged_height, model, judged : Height, Digest, Digest
        The judgement that led to it: of which block, by which model, and the digest of what was
        judged.
    anomalous, window : int
        So many of so many flows were anomalous.
    accusers : tuple of Accuser
        Of the tally at that moment.
    appeal : Appeal or None
        There is at most one against a measure, whatever the answer.
    answer : {"none", "refused", "released"}
        The registrar's last word.
    answered_height : Height or None
    """

    action: str
    height: Height
    until_ms: int
    judged_height: Height
    model: Digest
    judged: Digest
    anomalous: int
    window: int
    accusers: tuple[Accuser, ...]
    appeal: Appeal | None
    answer: str
    answered_height: Height | None

    @property
    def is_appealed(self) -> bool:
        """Whether an appeal waits for its answer."""
        return self.appeal is not None and self.answer == "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRecord:
    """How a miner's detector has done so far; every count is of flows but for the first two.

    Parameters
    ----------
    verdicts, late : int
        Verdicts on the chain, and those of them that came when their block was decided already.
    judged, anomalous : int
        Flows judged, and those of them called anomalous.
    overruled, missed : int
        Flows it called anomalous and the decision did not, and the other way round.
    released : int
        Flows called anomalous by it and by the decision, of devices that were released since.
    """

    verdicts: int = 0
    late: int = 0
    judged: int = 0
    anomalous: int = 0
    overruled: int = 0
    missed: int = 0
    released: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictVote:
    """One miner's verdict on an undecided block: a bit for each flow, the first flow first."""

    miner: Address
    anomalous: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgementRecord:
    """The verdicts on one block.

    Parameters
    ----------
    miners : tuple of Address
        Those that have judged it.
    votes : tuple of VerdictVote
        Their verdicts, until a quorum of them decides the block's flows.
    outcome : bytes or None
        What was decided, a bit for each flow as in a vote; None until then.
    """

    miners: tuple[Address, ...]
    votes: tuple[VerdictVote, ...]
    outcome: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A registered model.

    Parameters
    ----------
    schema : Digest
        The feature schema it reads.
    threshold_ppm : int
        A flow is anomalous when its score reaches this.
    manifest : Digest
        SHA-256 of its manifest.
    """

    name: str
    schema: Digest
    threshold_ppm: int
    size_bytes: int
    manifest: Digest
    organisation: Address | None
    registered_height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """From which height on a model judges."""

    from_height: Height
    model: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveModels:
    """The latest activations, ascending."""

    activations: tuple[Activation, ...]

    def at(self, height: int) -> Digest | None:
        """Return the model that judges the flows of block `height`, or None."""
        model = None
        for activation in self.activations:
            if activation.from_height <= height:
                model = activation.model
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """A governance proposal.

    Parameters
    ----------
    status : {"open", "enacted", "rejected", "expired", "void"}
        `open`, even if a quorum approves it, while an earlier change is in the way; `void`: it was
        agreed on, but no longer possible by then.
    """

    kind: str
    body: bytes
    proposer: Address
    opened_height: Height
    deadline_ms: int
    approvals: tuple[Address, ...]
    refusals: tuple[Address, ...]
    status: str
    closed_height: Height | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenProposals:
    """Ids of the proposals that are open, oldest first."""

    ids: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedProposals:
    """Ids of the closed proposals that the state still has, in the order of their ends."""

    ids: tuple[Digest, ...]


_ADDRESS: Final = Blob(DIGEST_SIZE)
_DIGEST: Final = Blob(DIGEST_SIZE)
_HEIGHT: Final = Integer(0, HEIGHT_MAX)
_TIME: Final = Integer(0, 2 * TIME_MS_MAX)
_NAME: Final = Text(NAME_SIZE_MAX, pattern=NAME)
HOST: Final = Text(253, pattern=re.compile(r"[A-Za-z0-9.:_-]+"))
"""Name or address of a host; nothing that a log or a page could stumble over."""
ANY_KEY: Final = Blob(ED25519_KEY_SIZE, P256_KEY_SIZE)
ROLE_LIST: Final = ListOf(Word(*ROLES), ROLES_MAX)

MINER_TABLE: Final = Table(
    b"miner/",
    Record(
        MinerRecord,
        name=_NAME,
        key=Blob(ED25519_KEY_SIZE),
        node_key=Blob(ED25519_KEY_SIZE),
        host=HOST,
        port=Integer(1, 65_535),
        status=Word("active", "demoted", "removed"),
        since_height=_HEIGHT,
        former_keys=ListOf(
            Record(FormerKey, key=Blob(ED25519_KEY_SIZE), until_height=_HEIGHT), FORMER_KEYS_MAX
        ),
    ),
)
KEY_TABLE: Final = Table(
    b"key/", Record(KeyRecord, role=Word("miner", "node", "registrar"), owner=_ADDRESS)
)
ANCHOR_TABLE: Final = Table(b"anchor/", Record(Anchor, block_hash=_DIGEST))
EVIDENCE_TABLE: Final = Table(
    b"evidence/",
    Record(
        EvidenceRecord,
        type=Word(*STATEMENT_TYPES),
        height=_HEIGHT,
        round=Integer(0, ROUND_MAX),
        digest=_DIGEST,
        transaction=_DIGEST,
        reporter=_ADDRESS,
        accepted_height=_HEIGHT,
        pardoned_height=Optional(_HEIGHT),
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
            Record(Passed, miner=_ADDRESS, failures=Integer(1, 64), until_height=_HEIGHT),
            MINERS_MAX,
        ),
    ),
)
ORGANISATION_TABLE: Final = Table(
    b"organisation/",
    Record(
        OrganisationRecord,
        name=_NAME,
        registrar_key=ANY_KEY,
        limits=Limits(),
        active=Boolean(),
        device_count=Integer(),
        model_count=Integer(),
    ),
)
DEVICE_TABLE: Final = Table(
    b"device/",
    Record(
        DeviceRecord,
        organisation=_ADDRESS,
        name=_NAME,
        key=ANY_KEY,
        roles=ROLE_LIST,
        gateway=Optional(_ADDRESS),
        limits=Limits(),
        status=Word("active", "suspended", "quarantined", "revoked"),
        quarantined_until_ms=_TIME,
        limited_until_ms=_TIME,
        registered_height=_HEIGHT,
        key_height=_HEIGHT,
    ),
)
APPEAL_TEXT: Final = Text(
    APPEAL_TEXT_SIZE_MAX,
    minimum=1,
    pattern=re.compile(r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+"),
)
"""One line for people: nothing in it that turns a terminal or the direction of writing."""
_ACCUSERS: Final = ListOf(Record(Accuser, miner=_ADDRESS, flows=Integer(1)), MINERS_MAX)
_FLAGS: Final = Blob(1, 2048)
POLICY: Final = Record(
    PolicyRecord,
    action=Word(*ACTIONS),
    anomalous_min=Integer(1, RING_BITS),
    window=Integer(1, RING_BITS),
    duration_ms=Integer(1_000, 365 * 24 * 3_600_000),
    limits=Limits(),
)
POLICY_TABLE: Final = Table(b"policy/", POLICY)
PARAMETERS_TABLE: Final = Table(b"parameters", PARAMETERS)
TALLY_TABLE: Final = Table(
    b"tally/",
    Record(
        TallyRecord,
        judged=Integer(),
        anomalous=Integer(),
        ring=Blob(RING_BITS // 8),
        accusers=_ACCUSERS,
    ),
)
MEASURE_TABLE: Final = Table(
    b"measure/",
    Record(
        MeasureRecord,
        action=Word(*ACTIONS[1:]),
        height=_HEIGHT,
        until_ms=_TIME,
        judged_height=_HEIGHT,
        model=_DIGEST,
        judged=_DIGEST,
        anomalous=Integer(1, RING_BITS),
        window=Integer(1, RING_BITS),
        accusers=_ACCUSERS,
        appeal=Optional(Record(Appeal, transaction=_DIGEST, height=_HEIGHT, text=APPEAL_TEXT)),
        answer=Word("none", "refused", "released"),
        answered_height=Optional(_HEIGHT),
    ),
)
DETECTOR_TABLE: Final = Table(
    b"detector/",
    Record(
        DetectorRecord,
        verdicts=Integer(),
        late=Integer(),
        judged=Integer(),
        anomalous=Integer(),
        overruled=Integer(),
        missed=Integer(),
        released=Integer(),
    ),
)
JUDGEMENT_TABLE: Final = Table(
    b"judgement/",
    Record(
        JudgementRecord,
        miners=ListOf(_ADDRESS, MINERS_MAX),
        votes=ListOf(Record(VerdictVote, miner=_ADDRESS, anomalous=_FLAGS), MINERS_MAX),
        outcome=Optional(_FLAGS),
    ),
)
MODEL_TABLE: Final = Table(
    b"model/",
    Record(
        ModelRecord,
        name=_NAME,
        schema=_DIGEST,
        threshold_ppm=Integer(0, 1_000_001),
        size_bytes=Integer(1, 2**32),
        manifest=_DIGEST,
        organisation=Optional(_ADDRESS),
        registered_height=_HEIGHT,
    ),
)
ACTIVE_MODELS: Final = Table(
    b"active-models",
    Record(
        ActiveModels,
        activations=ListOf(
            Record(Activation, from_height=_HEIGHT, model=_DIGEST), MODEL_HISTORY_MAX
        ),
    ),
)
PROPOSAL_TABLE: Final = Table(
    b"proposal/",
    Record(
        ProposalRecord,
        kind=Text(KIND_SIZE_MAX),
        body=Blob(1, BODY_SIZE_MAX),
        proposer=_ADDRESS,
        opened_height=_HEIGHT,
        deadline_ms=_TIME,
        approvals=ListOf(_ADDRESS, MINERS_MAX),
        refusals=ListOf(_ADDRESS, MINERS_MAX),
        status=Word("open", "enacted", "rejected", "expired", "void"),
        closed_height=Optional(_HEIGHT),
    ),
)
OPEN_PROPOSALS: Final = Table(
    b"open-proposals", Record(OpenProposals, ids=ListOf(_DIGEST, OPEN_PROPOSALS_MAX))
)
CLOSED_PROPOSALS: Final = Table(
    b"closed-proposals", Record(ClosedProposals, ids=ListOf(_DIGEST, CLOSED_PROPOSALS_MAX))
)

TABLES: Final[tuple[Table[Any], ...]] = (
    MINER_TABLE,
    KEY_TABLE,
    ANCHOR_TABLE,
    EVIDENCE_TABLE,
    MINER_SETS,
    PASSED_OVER,
    ORGANISATION_TABLE,
    DEVICE_TABLE,
    POLICY_TABLE,
    PARAMETERS_TABLE,
    TALLY_TABLE,
    MEASURE_TABLE,
    DETECTOR_TABLE,
    JUDGEMENT_TABLE,
    MODEL_TABLE,
    ACTIVE_MODELS,
    PROPOSAL_TABLE,
    OPEN_PROPOSALS,
    CLOSED_PROPOSALS,
    ROUND_TABLE,
    SHARES_TABLE,
    REVEAL_TABLE,
    OPEN_ROUNDS,
    CLOSED_ROUNDS,
)
"""Every table; no prefix is the beginning of another."""


def height_key(height: int) -> bytes:
    """Return a key that sorts as the height does."""
    return height.to_bytes(8, "big")
