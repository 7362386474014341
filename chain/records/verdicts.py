"""What the state holds of verdicts: on blocks, of devices, by miners."""

from dataclasses import dataclass
from typing import Final

from chain.fields import ADDRESS
from chain.miners import MINERS_MAX
from chain.records.policies import RING_BITS
from chain.schema import Blob, Integer, ListOf, Optional, Record
from chain.table import Table
from chain.types import Address


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


ACCUSERS: Final = ListOf(Record(Accuser, miner=ADDRESS, flows=Integer(1)), MINERS_MAX)
_FLAGS: Final = Blob(1, 2048)
TALLY_TABLE: Final = Table(
    b"tally/",
    Record(
        TallyRecord,
        judged=Integer(),
        anomalous=Integer(),
        ring=Blob(RING_BITS // 8),
        accusers=ACCUSERS,
    ),
)
JUDGEMENT_TABLE: Final = Table(
    b"judgement/",
    Record(
        JudgementRecord,
        miners=ListOf(ADDRESS, MINERS_MAX),
        votes=ListOf(Record(VerdictVote, miner=ADDRESS, anomalous=_FLAGS), MINERS_MAX),
        outcome=Optional(_FLAGS),
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
