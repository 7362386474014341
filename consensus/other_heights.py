"""Messages of other heights: who is behind is helped, what is ahead waits for its height."""

from chain.types import Address, Height
from consensus.draft import Draft
from consensus.events import HeightConfig
from consensus.height import HeightState
from consensus.log import HEIGHTS_AHEAD_MAX, Entry, MessageLog
from consensus.messages import Message, RoundChange
from consensus.output import AnswerOldHeight, CatchUp
from consensus.signatures import is_of_member


class OtherHeights:
    """What members have said of heights below and above the present one.

    Attributes
    ----------
    ahead : dict of Height to MessageLog
        Messages of the next heights, of which there are at most `HEIGHTS_AHEAD_MAX`.
    """

    def __init__(self) -> None:
        self.ahead: dict[Height, MessageLog] = {}
        # These are bounded by the members: `start` drops all others.
        self._answered_ns: dict[Address, int] = {}
        self._shown: dict[Address, Height] = {}

    def start(self, config: HeightConfig) -> list[Entry]:
        """Return what has come for the height that begins; forget what is past."""
        miners, height = config.miners, config.height
        self._answered_ns = {m: at for m, at in self._answered_ns.items() if m in miners}
        self._shown = {m: shown for m, shown in self._shown.items() if m in miners}
        waiting = self.ahead.pop(height, None)
        self.ahead = {h: log for h, log in self.ahead.items() if h > height}
        return [] if waiting is None else waiting.entries()

    def on_old(self, message: Message, state: HeightState, draft: Draft) -> None:
        """Help a member that is behind, but not one whose votes are merely late."""
        height = state.config.height
        late = message.height == height - 1 and not isinstance(message, RoundChange)
        agreed = message.height > 0  # what an honest member signs; genesis has no certificate
        allowed_ns = self._answered_ns.get(message.sender, 0)
        if late or not agreed or draft.now < allowed_ns or not is_of_member(message, state):
            return
        self._answered_ns[message.sender] = draft.now + state.config.timing.resend_ns()
        draft.requests.append(AnswerOldHeight(miner=message.sender, height=message.height))

    def on_ahead(self, entry: Entry, state: HeightState, draft: Draft) -> None:
        """Keep a message of a next height, or learn from it that this miner is far behind.

        The set of that height may differ: what no member of the next has signed is dropped.
        """
        message = entry.message
        distance = message.height - state.config.height
        if distance > 1 and message.height > self._shown.get(message.sender, 0):
            if not is_of_member(message, state):
                return
            self._shown[message.sender] = message.height
            draft.requests.append(CatchUp(miner=message.sender, height=message.height))
        if distance > HEIGHTS_AHEAD_MAX:
            return
        log = self.ahead.get(message.height) or MessageLog(message.height)
        if log.wants(message) and is_of_member(message, state):
            log.put(entry)
            self.ahead[message.height] = log
            state.overtaken = True

    def ask(self, draft: Draft) -> None:
        """Ask those that show a next height for the block of this one: any one of them may lie."""
        for height in sorted(self.ahead):
            for sender in sorted({entry.message.sender for entry in self.ahead[height].entries()}):
                draft.requests.append(CatchUp(miner=sender, height=height))

    def of(self, miner: Address) -> list[Message]:
        """Return what a member has said of next heights, lowest first."""
        return [
            message for height in sorted(self.ahead) for message in self.ahead[height].of(miner)
        ]
