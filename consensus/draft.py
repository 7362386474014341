"""The output of one step, as it is gathered."""

from dataclasses import dataclass, field

from chain.types import Address, Round
from consensus.codec import encode_message
from consensus.durable import WalRecord
from consensus.errors import InvalidMessage
from consensus.evidence import Evidence
from consensus.height import HeightState, RoundEntry
from consensus.messages import Message
from consensus.output import Committed, Output, Request, Send


@dataclass(slots=True)
class Draft:
    """An `Output` in the making.

    Parameters
    ----------
    now : int
        Monotonic time of the step, in nanoseconds.
    """

    now: int
    writes: list[WalRecord] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    commits: list[Committed] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    rejected: list[InvalidMessage] = field(default_factory=list)
    rounds: list[RoundEntry] = field(default_factory=list)

    def send(self, message: Message, to: Address | None = None) -> None:
        """Add a message to be sent; for several receivers it is encoded once."""
        data = next((send.data for send in self.sends if send.message is message), None)
        if data is None:
            data = encode_message(message)
        self.sends.append(Send(message=message, data=data, to=to))

    def enter(self, round: Round, cause: str, state: HeightState) -> None:
        """Begin a round of the height, and say so."""
        self.rounds.append(state.enter(round, self.now, cause))

    def finish(self, deadline_ns: int | None) -> Output:
        """Return the output."""
        return Output(
            writes=tuple(self.writes),
            sends=tuple(self.sends),
            requests=tuple(self.requests),
            commits=tuple(self.commits),
            evidence=tuple(self.evidence),
            rejected=tuple(self.rejected),
            rounds=tuple(self.rounds),
            deadline_ns=deadline_ns,
        )
