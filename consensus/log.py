"""The messages of one height, bounded for each sender apart (DESIGN rule 9)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chain.types import Address, Digest, Height, Round, TimestampMs
from consensus.messages import Commit, Message, Phase, Prepare, RoundChange
from consensus.quorum import VoteSet

ROUNDS_KEPT_MAX: Final = {
    Phase.ROUND_CHANGE: 2,
    Phase.PRE_PREPARE: 2,
    Phase.PREPARE: 2,
    Phase.COMMIT: 8,
}
"""Messages kept of one sender and type: that of the current round, and those of the highest rounds.

COMMITs of past rounds count as well, hence more of them. At the bound a sender displaces its own
messages only.
"""

ROUNDS_ABOVE_MAX: Final = 8
"""Messages of rounds above the current one that are taken of one sender and type, until another
round is entered.

Each has to be verified, and displaces the one before. Whoever has more to say in so short a time
is faulty, or far ahead: then it sends its last again, and those taken already let this miner
follow others into the round where that is taken.
"""

HEIGHTS_AHEAD_MAX: Final = 2
"""Messages for so many next heights are kept, by the same bounds, until their height begins."""

_NO_TIME: Final = TimestampMs(0)


@dataclass(frozen=True, slots=True)
class Entry:
    """A verified message, and the wall clock at its arrival, if it has come from elsewhere."""

    message: Message
    wall_ms: TimestampMs = _NO_TIME


class MessageLog:
    """What members have said about one height.

    Parameters
    ----------
    height : Height
        All messages are of this height; their signatures have been verified.
    """

    def __init__(self, height: Height) -> None:
        self.height = height
        self._round = Round(0)
        self._slots: dict[tuple[Address, Phase], dict[Round, Entry]] = {}
        self._above: Counter[tuple[Address, Phase]] = Counter()

    def enter(self, round: Round) -> None:
        """Take note of the current round, whose messages are never displaced."""
        self._round = round
        self._above.clear()

    def get(self, sender: Address, phase: Phase, round: Round) -> Message | None:
        """Return the message of this sender, type and round."""
        entry = self._slots.get((sender, phase), {}).get(round)
        return None if entry is None else entry.message

    def wants(self, message: Message) -> bool:
        """Tell whether `put` would keep `message`; asked before its signature is verified."""
        origin = (message.sender, message.phase)
        slots = self._slots.get(origin, {})
        if message.round in slots:
            return False
        if message.round == self._round:
            return True
        if message.round > self._round and self._above[origin] >= ROUNDS_ABOVE_MAX:
            return False
        others = [round for round in slots if round != self._round]
        room = ROUNDS_KEPT_MAX[message.phase] - len(slots)
        return room > 0 or (bool(others) and message.round > min(others))

    def put(self, entry: Entry) -> None:
        """Keep a verified message that `wants` holds for; at the bound the sender's lowest goes."""
        message = entry.message
        origin = (message.sender, message.phase)
        slots = self._slots.setdefault(origin, {})
        slots[message.round] = entry
        if message.round > self._round:
            self._above[origin] += 1
        if len(slots) > ROUNDS_KEPT_MAX[message.phase]:
            # The message of the current round stays, whatever else its sender says.
            del slots[min(round for round in slots if round != self._round)]

    def entries(self) -> list[Entry]:
        """Return everything, in the order in which it was meant to be said."""
        return sorted(
            (entry for slots in self._slots.values() for entry in slots.values()),
            key=lambda entry: (entry.message.round, entry.message.phase, entry.message.sender),
        )

    def of(self, sender: Address) -> list[Message]:
        """Return the messages of one sender, lowest round and phase first."""
        return [entry.message for entry in self.entries() if entry.message.sender == sender]

    def votes(self, phase: Phase) -> list[VoteSet]:
        """Return the PREPAREs or COMMITs by round and digest, lowest round first."""
        sets: dict[tuple[Round, Digest], VoteSet] = {}
        for message in self._of_phase(phase):
            assert isinstance(message, Prepare | Commit), "only these two are votes"
            key = (message.round, message.digest)
            votes = sets.get(key)
            if votes is None:
                votes = sets[key] = VoteSet(self.height, message.round, message.digest)
            votes.add(message.sender, message.signature)
        return [sets[key] for key in sorted(sets)]

    def votes_for(self, phase: Phase, round: Round, digest: Digest) -> VoteSet:
        """Return the PREPAREs or COMMITs for one block in one round."""
        votes = VoteSet(self.height, round, digest)
        for message in self._of_phase(phase):
            assert isinstance(message, Prepare | Commit), "only these two are votes"
            if message.round == round and message.digest == digest:
                votes.add(message.sender, message.signature)
        return votes

    def round_changes(self, round: Round) -> list[RoundChange]:
        """Return the ROUND-CHANGEs for exactly `round`, in ascending order of their senders."""
        found = [
            message
            for message in self._of_phase(Phase.ROUND_CHANGE)
            if isinstance(message, RoundChange) and message.round == round
        ]
        return sorted(found, key=lambda message: message.sender)

    def has_round_changes(self) -> bool:
        """Tell whether any member has given up a round."""
        return any(phase == Phase.ROUND_CHANGE for _, phase in self._slots)

    def reached(self) -> dict[Address, Round]:
        """Return the highest round that each sender has shown by any message."""
        rounds: dict[Address, Round] = {}
        for (sender, _), slots in self._slots.items():
            rounds[sender] = max(rounds.get(sender, Round(0)), *slots)
        return rounds

    def __len__(self) -> int:
        return sum(len(slots) for slots in self._slots.values())

    def _of_phase(self, phase: Phase) -> Iterator[Message]:
        for (_, kept), slots in self._slots.items():
            if kept == phase:
                for entry in slots.values():
                    yield entry.message
