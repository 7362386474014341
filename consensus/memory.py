"""What a miner asks of the others about its own memory (DESIGN rule 6).

Whoever has forgotten what it signed must stay silent until every height at which it may have
signed is decided; and whoever starts may have forgotten without knowing, for an older copy of a log
looks like a log. docs/spec/consensus.md, sections "Lost memory" and "Start", has the arguments.
"""

from collections.abc import Collection, Mapping
from typing import Final

from chain.miners import MinerSet
from chain.types import Address, Height, PublicKey
from consensus.draft import Draft
from consensus.durable import Floor, LostMemory
from consensus.errors import NotAMember
from consensus.events import HeightConfig
from consensus.height import HeightState
from consensus.log import HEIGHTS_AHEAD_MAX
from consensus.messages import Message, position_of
from consensus.signatures import check_signature, is_of_member
from consensus.signer import Signer

SILENT_HEIGHTS: Final = 2
"""A miner without memory signs nothing until so many heights after H."""


class Memory:
    """What members have told this miner since it started, and what follows for its signer.

    Attributes
    ----------
    reports : dict of Address to Height
        The heights that members said they work on, at most one for each.
    """

    def __init__(self, signer: Signer) -> None:
        self._me = signer.miner_id
        self._signer = signer
        self.reports: dict[Address, Height] = {}
        self._shown: dict[Address, Height] = {}

    def start(self, config: HeightConfig, draft: Draft) -> None:
        """Ask anew, at a height that begins, what is known; forget who is no member of it."""
        self.reports = {m: at for m, at in self.reports.items() if m in config.miners}
        self._shown = {m: at for m, at in self._shown.items() if m in config.miners}
        self._set_floor(config, draft)
        self._trust(config)

    def on_own(self, message: Message, state: HeightState, draft: Draft) -> None:
        """Compare a message in this miner's name with what it remembers (DESIGN rule 6)."""
        durable = self._signer.durable
        if self._me not in state.config.miners:
            raise NotAMember(message.sender, "not a miner of this height")
        if message.height < state.config.height or position_of(message) <= durable.last:
            return
        if durable.floor is None and message.height <= durable.lost_height:
            return
        if message.height == state.config.height:
            check_signature(message, state)
        elif not is_of_member(message, state):
            return
        self._signer.write(LostMemory(height=message.height), draft)
        self._set_floor(state.config, draft)

    def on_height_seen(
        self, miner: Address, height: Height, config: HeightConfig, draft: Draft
    ) -> None:
        """Take note of the height that a member works on."""
        if miner != self._me and miner in config.miners:
            self.reports[miner] = max(height, self.reports.get(miner, height))
            self._set_floor(config, draft)

    def on_shown(self, miner: Address, height: Height, config: HeightConfig) -> None:
        """Take note that a member at `height` has shown all that it holds of this miner."""
        if miner != self._me and miner in config.miners:
            self._shown[miner] = height
            self._trust(config)

    def on_signer_seen(
        self, keys: Collection[PublicKey], remembers: bool, config: HeightConfig, draft: Draft
    ) -> None:
        """Meet the process that has the key; where it does not remember, nobody does."""
        self._signer.meet(keys)
        if not remembers:
            # Another node may have had the same key sign since they were told.
            self.reports.clear()
            self._signer.write(LostMemory(height=config.height), draft)
            self._set_floor(config, draft)

    def _set_floor(self, config: HeightConfig, draft: Draft) -> None:
        """End the silence of a miner without memory as soon as it knows until when it lasts.

        Also before it is a member: the height at which it becomes one may need it.
        """
        durable = self._signer.durable
        if durable.floor is not None:
            return
        known = known_height(self.reports, config.miners, self._me, config.height)
        if known is not None:
            height = Height(max(known, durable.lost_height) + SILENT_HEIGHTS)
            self._signer.write(Floor(height=height), draft)
            self._signer.owes(height, draft)

    def _trust(self, config: HeightConfig) -> None:
        """Take the log for the latest once a quorum has shown what it holds of this miner."""
        if not self._signer.is_latest and self._me in config.miners:
            self._signer.is_latest = has_heard_enough(
                self._shown, config.miners, self._me, config.height
            )


def known_height(
    reports: Mapping[Address, Height], miners: MinerSet, me: Address, height: Height
) -> Height | None:
    """Return H, the highest height at which this miner may have signed, less one; None if unknown.

    Parameters
    ----------
    reports : mapping of Address to Height
        The heights that other members have said, since this miner started, that they work on.
    height : Height
        The height that this miner itself works on.

    Notes
    -----
    H is known once ``k = n - f`` members have reported, or all others where those are fewer, and
    the k-th lowest of their reports is no further ahead than the window of next heights: a liar
    that names an absurd height is passed over, and real heights have first to be reached by
    synchronisation. A single miner has nobody to ask: only the operator's explicit floor helps.
    """
    others = {member.id for member in miners} - {me}
    needed = min(len(miners) - miners.f, len(others))
    if needed == 0:
        return None
    told = sorted(reported for miner, reported in reports.items() if miner in others)
    if len(told) < needed or told[needed - 1] > height + HEIGHTS_AHEAD_MAX:
        return None
    return max(height, told[needed - 1])


def has_heard_enough(
    shown: Mapping[Address, Height], miners: MinerSet, me: Address, height: Height
) -> bool:
    """Tell whether a miner that has started may take its log for the latest.

    Parameters
    ----------
    shown : mapping of Address to Height
        The members that have, since this miner started, shown what they hold of its signatures,
        and the heights that they worked on meanwhile.
    height : Height
        The height that this miner itself works on.

    Notes
    -----
    It has where a quorum, itself included, has shown it at this height or below. Waiting for so
    many costs nothing: with fewer nobody decides anything. And it is behind nobody then, so that it
    signs nothing for a height that is settled.
    """
    told = [miner for miner, at in shown.items() if miner in miners and at <= height]
    return len({*told, me}) >= miners.quorum
