"""What a miner must not forget: the records of its log, and the state they add up to.

DESIGN rules 4 to 6. A log begins with a `Floor`, written when the miner is created; a log without
one belongs to a miner that has lost its memory. docs/spec/consensus.md, section "What is durable",
is normative.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from chain import codec
from chain.certificate import CERTIFICATE, PreparedCertificate
from chain.fields import HEIGHT
from chain.miners import MINERS_MAX
from chain.schema import Record, Tagged
from chain.types import Height, Round
from consensus.codec import MESSAGE, MESSAGE_SIZE_MAX, PROPOSAL
from consensus.messages import Message, Position, Proposal, position_of

RECORD_SIZE_MAX: Final = MESSAGE_SIZE_MAX + 64
NO_HEIGHT: Final = Height(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The miner may sign at `height` and above; what it signed below is settled.

    Written at creation (height 0), when lost memory is made up for, at compaction, and by the
    operator's explicit command.
    """

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class LostMemory:
    """A signature of this miner at `height` was shown to it which it does not remember."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The block that this miner is about to send a PREPARE or PRE-PREPARE for."""

    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The PREPAREs that this miner is about to send a COMMIT on."""

    certificate: PreparedCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A message that this miner has signed and may have sent."""

    message: Message


WalRecord = Floor | LostMemory | Accepted | Prepared | Signed


RECORD: Final = Tagged(
    {
        "floor": Record(Floor, height=HEIGHT),
        "lost-memory": Record(LostMemory, height=HEIGHT),
        "accepted": Record(Accepted, proposal=PROPOSAL),
        "prepared": Record(Prepared, certificate=CERTIFICATE),
        "signed": Record(Signed, message=MESSAGE),
    }
)


def encode_record(record: WalRecord) -> bytes:
    """Return the canonical bytes of `record`."""
    return codec.encode(RECORD.write(record))


def decode_record(data: bytes) -> WalRecord:
    """Read a record; raises `DecodeError`."""
    items = codec.decode(data, what="record", size_max=RECORD_SIZE_MAX, items_max=MINERS_MAX)
    record: WalRecord = RECORD.read(items, "record")
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableState:
    """What the records of a log add up to.

    Parameters
    ----------
    floor : Height, optional
        The lowest height at which this miner may sign. None: it has lost its memory.
    lost_height : Height
        The highest height at which an own, forgotten signature was seen; counts without a floor.
    messages : tuple of Message
        Own messages of the last signed height and round, in the order of signing.
    proposals : tuple of Proposal
        Blocks of that height that were accepted: the last one, and the one it is prepared for.
    prepared : PreparedCertificate, optional
        The highest of that height.
    """

    floor: Height | None = None
    lost_height: Height = NO_HEIGHT
    messages: tuple[Message, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    prepared: PreparedCertificate | None = None

    @property
    def last(self) -> Position:
        """The position above which this miner may sign, memory permitting."""
        if self.messages:
            return position_of(self.messages[-1])
        return Position(self.floor or NO_HEIGHT, Round(0), -1)

    def apply(self, record: WalRecord) -> "DurableState":
        """Return the state after one more record."""
        match record:
            case Floor():
                return self.settled(record.height)
            case LostMemory():
                return replace(self, floor=None, lost_height=max(self.lost_height, record.height))
            case Accepted():
                return self._with_proposal(record.proposal)
            case Prepared():
                return replace(self, prepared=record.certificate)
            case Signed():
                return self._with_message(record.message)

    def settled(self, height: Height) -> "DurableState":
        """Return the state once every height below `height` is out of reach."""
        if self.messages and self.messages[0].height >= height:
            return replace(self, floor=height, lost_height=NO_HEIGHT)
        return DurableState(floor=height)

    def records(self) -> tuple[WalRecord, ...]:
        """Return the fewest records that add up to this state, to rewrite a log with."""
        head: WalRecord = (
            LostMemory(height=self.lost_height) if self.floor is None else Floor(height=self.floor)
        )
        return (
            head,
            *(() if self.prepared is None else (Prepared(certificate=self.prepared),)),
            *(Accepted(proposal=proposal) for proposal in self.proposals),
            *(Signed(message=message) for message in self.messages),
        )

    def _at(self, height: Height) -> "DurableState":
        """Return the state without proposals and certificates of other heights."""
        prepared = self.prepared
        if prepared is not None and prepared.height != height:
            prepared = None
        proposals = tuple(old for old in self.proposals if old.header.height == height)
        return replace(self, prepared=prepared, proposals=proposals)

    def _with_proposal(self, proposal: Proposal) -> "DurableState":
        state = self._at(proposal.header.height)
        prepared = None if state.prepared is None else state.prepared.digest
        kept = tuple(old for old in state.proposals if old.digest == prepared != proposal.digest)
        return replace(state, proposals=(*kept, proposal))

    def _with_message(self, message: Message) -> "DurableState":
        place = (message.height, message.round)
        kept = tuple(old for old in self.messages if (old.height, old.round) == place)
        return replace(self._at(message.height), messages=(*kept, message))


def recover(records: Iterable[WalRecord]) -> DurableState:
    """Return what a log holds; an empty one gives a miner that has lost its memory."""
    state = DurableState()
    for record in records:
        state = state.apply(record)
    return state
