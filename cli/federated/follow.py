"""A device that follows the chain and takes part in federated rounds as they come."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from typing import Final

from chain.errors import SecureNetError
from chain.federated.progress import awaited
from chain.federated.records import OPEN_PHASES, FederatedRound
from chain.kinds.participation import PARTICIPANT
from chain.types import Digest
from cli.client import Client
from cli.errors import BadInput, CliError, OtherPromise, Refused, TimedOut, Unreachable
from cli.federated.chain_port import ChainPort, RoundReader
from cli.federated.memory import MemoryStore, Promise
from cli.federated.participant import Participant, end_part, member_of
from cli.federated.privacy import privacy_in
from cli.federated.shard import Shard
from cli.federated.waits import titled, waits_for
from cli.progress import Progress
from cli.render import show_error
from cli.signing import Sender
from node.clock import SystemClock
from node.random_source import SystemRandom
from node.tasks import first_error

POLL_S: Final = 5.0
"""The round is looked at so often even where no block is heard of."""
RETRY_S: Final = 1.0
PATIENCE_S: Final = 600.0
"""For so long a node may be away, or too busy, before a participant gives up."""
ROUNDS_MAX: Final = 1_000
WEIGHTS_APART_MAX: Final = 4
"""How many times as much one may weigh as another where masks are to hide both."""


class Patience:
    """Bears that a node is away, or too busy, for `PATIENCE_S` in a row."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._seen_ns = self._clock.monotonic_ns()

    def renew(self) -> None:
        """Note that the node has answered."""
        self._seen_ns = self._clock.monotonic_ns()

    def check(self, error: CliError) -> None:
        """Raise `error` where it is no use to ask the node again."""
        waited_s = (self._clock.monotonic_ns() - self._seen_ns) / 1e9
        if not _is_passing(error) or waited_s > PATIENCE_S:
            raise error

    async def bear(self, error: CliError) -> None:
        """Wait before the node is asked again; raises as `check`."""
        self.check(error)
        await asyncio.sleep(RETRY_S)


async def check_participant(client: Client, sender: Sender) -> None:
    """Make sure that a device may take part in federated rounds at all.

    Raises
    ------
    BadInput
        The node knows no such device, or it signs with another key.
    Refused
        It is not active, or lacks the role.
    """
    id = sender.address.hex()
    try:
        device = await client.device(id)
    except Refused as refusal:
        if refusal.status != 404:
            raise
        raise BadInput(
            f"no device {id} is registered", "register it (securenet device register)"
        ) from refusal
    if not device["active"]:
        raise _refused("device_not_active", f"device {id} is {device['status']}")
    if PARTICIPANT not in device["roles"]:
        error = _refused("not_permitted", f"device {id} lacks the role {PARTICIPANT}")
        roles = " ".join(f"--role {role}" for role in [*device["roles"], PARTICIPANT])
        error.advice = f"its registrar gives it: securenet device roles {id} {roles} --key FILE"
        raise error
    if device["key"] != sender.key.public.hex():
        raise BadInput(
            f"device {id} signs with another key by now", "give the key file that it was rotated to"
        )


class Gateway:
    """Takes part in federated rounds with one device and its data.

    Parameters
    ----------
    trust : Digest or None
        As in `RoundReader`.
    tell : callable
        Told of every round with a part of the device that is over.
    complains : bool
        As in `Participant`.
    shows : bool
        Whether to take part where the own update can be seen.
    promise : Promise, optional
        What is asked for; what was promised as a round was begun holds, as in `privacy_in`.
    """

    def __init__(
        self,
        client: Client,
        sender: Sender,
        *,
        trust: Digest | None,
        shard: Shard,
        store: MemoryStore,
        progress: Progress,
        tell: Callable[[Digest, FederatedRound], None],
        complains: bool,
        shows: bool = False,
        promise: Promise | None = None,
    ) -> None:
        self.device = sender.address
        self._client = client
        self._sender = sender
        self._reader = RoundReader(client, trust)
        self._port = ChainPort(client, sender, self._reader)
        self._shard = shard
        self._store = store
        self._progress = progress
        self._tell = tell
        self._complains = complains
        self._shows = shows
        self._promise = promise
        self._parts: dict[Digest, Participant] = {}
        self._waits: dict[Digest, str] = {}
        """What the rounds that it has a part in wait for."""
        self._unfinished = store.unfinished(sender.address)
        self._left: set[Digest] = set()
        """Rounds of others, those that are over, and those in which it cannot go on."""
        self._said: dict[Digest | None, str] = {}
        """The last line that was printed of each round, and of what is waited for without one."""
        self._awaiting: set[Digest] = set()
        """Rounds whose base model the node did not hold."""

    async def run(self, chosen: Digest | None, *, forever: bool) -> FederatedRound:
        """Take part until a round is over, and return it; with `forever`, in all that come.

        Parameters
        ----------
        chosen : Digest or None
            The round; None: one that was begun and is not over, or else the next that invites the
            device. Others are left alone.

        Raises
        ------
        CliError
            It cannot take part, or the node was away for `PATIENCE_S`.
        """
        news = asyncio.Event()
        with first_error():
            async with asyncio.TaskGroup() as tasks:
                watcher = tasks.create_task(_watch(self._client, news))
                over = await self._follow(chosen, news, forever=forever)
                watcher.cancel()
        return over

    async def _follow(
        self, chosen: Digest | None, news: asyncio.Event, *, forever: bool
    ) -> FederatedRound:
        patience = Patience()
        is_trusted = False
        while True:
            news.clear()
            try:
                if not is_trusted:
                    await self._reader.check(self.device)
                    is_trusted = True
                for round_id in await self._rounds(chosen):
                    if chosen is None:
                        over = await self._look(round_id, stays=forever)
                    else:
                        over = await self._act(chosen, await self._reader.find(chosen))
                    if over is not None and not forever:
                        return over
                if self._parts:
                    self._said.pop(None, None)
                else:
                    await check_participant(self._client, self._sender)
                    self._say(None, "waiting for a federated round that invites this device")
                patience.renew()
            except CliError as error:
                patience.check(error)
                self._say_away(error)
                await patience.bear(error)
                continue
            with self._progress.waiting("; ".join(self._waits.values())), suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await news.wait()

    async def _rounds(self, chosen: Digest | None) -> Sequence[Digest]:
        """Return the rounds to look at: the chosen one, or all open and all unfinished ones."""
        if chosen is not None:
            return (chosen,)
        items = await self._client.pages("/v1/rounds", limit=ROUNDS_MAX)
        items = [item for item in items if item["phase"] in OPEN_PHASES]
        items.sort(key=lambda item: int(item["opened_height"]))
        open_ids = [Digest(bytes.fromhex(item["id"])) for item in items]
        ids = dict.fromkeys([*self._parts, *self._unfinished, *open_ids])
        return [id for id in ids if id not in self._left]

    async def _look(self, round_id: Digest, *, stays: bool) -> FederatedRound | None:
        """Do what is due in one round, if it is for the device; return it if it is over."""
        try:
            found = await self._reader.find(round_id)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            # The chain has forgotten it, or this node does not know it yet: secrets stay.
            self._leave(round_id)
            return None
        is_mine = False
        try:
            is_mine = round_id in self._parts or self._may_take_part(round_id, found, stays=stays)
            return await self._act(round_id, found) if is_mine else None
        except SecureNetError as error:
            # Another promise is a mistake in the options, which are those of all rounds.
            if _is_passing(error) or isinstance(error, OtherPromise):
                raise
            # A round that went on without the device is not the one that it was to see through,
            # and for who stays one that goes wrong is no reason to miss the others.
            if not stays and not _was_missed(error):
                raise
            what, advice = str(error), "this federated round goes on without the device"
            if isinstance(error, CliError):
                what, advice = error.what, error.advice
            show_error(what, advice)
            is_mine = False
            return None
        finally:
            if not is_mine:
                self._leave(round_id)

    def _may_take_part(self, round_id: Digest, found: FederatedRound, *, stays: bool) -> bool:
        """Tell whether a round is for the device, and say why not where it is invited."""
        if found.position_of(self.device) is None:
            return False
        why_not = None
        if self._store.find(round_id, self.device) is None:
            if found.phase != "join":
                why_not = "is past joining"
            elif not self._shows and (shown := self._why_shown(round_id, found)) is not None:
                why_not = f"is passed over without --unmasked: {shown}"
        # Said of those alone in which --all would take part.
        if why_not is None and self._parts and not stays:
            why_not = "is left alone: --all takes part in all that come"
        if why_not is not None:
            name = titled(found.terms.name, round_id)
            self._say(round_id, f"{name}, which invites this device, {why_not}")
        return why_not is None

    def _why_shown(self, round_id: Digest, found: FederatedRound) -> str | None:
        """Tell why the own update could be seen, if not in this round alone then beside another.

        Who trains from one model twice sends much the same twice. So two sums of which one lacks a
        single participant show what that one has sent. Noise is of each round anew, and counted.
        """
        base = found.terms.base
        if self._promise is None and self._store.has_told(self.device, base, besides=round_id):
            return (
                f"another federated round has an update of this device from base {base.hex()}:"
                " what their two sums differ by shows single updates; a round from its published"
                " outcome is joined, and one from this base with --noise"
            )
        return why_shown(found)

    async def _act(self, round_id: Digest, found: FederatedRound) -> FederatedRound | None:
        self._say_phase(round_id, found)
        if not found.is_open:
            return self._end(round_id, found)
        if round_id not in self._parts:
            self._parts[round_id] = self._part(round_id, found)
        if found.phase == "join":
            if member_of(found, self.device).mask_key is None:
                shown = self._why_shown(round_id, found)
                if shown is not None and not self._shows:
                    raise BadInput(shown, "sit it out, or take part with --unmasked all the same")
                await check_participant(self._client, self._sender)
            # Before anything is promised to the others.
            if not await self._is_prepared(round_id, found):
                return None
        await self._parts[round_id].act(found)
        return None

    def _end(self, round_id: Digest, found: FederatedRound) -> FederatedRound:
        end_part(self._store, round_id, self.device, found)
        self._leave(round_id)
        if member_of(found, self.device).mask_key is None:
            detail = f"the federated round is {found.phase}, and the device had not joined it"
            raise Refused(status=422, code="round_closed", detail=detail)
        self._tell(round_id, found)
        return found

    async def _is_prepared(self, round_id: Digest, found: FederatedRound) -> bool:
        """Get the base model and the own rows; False while the node does not hold the model."""
        try:
            await self._shard.prepare(found.terms)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            # The node may still be fetching it, as one that was published a moment ago.
            if round_id not in self._awaiting:
                self._awaiting.add(round_id)
                self._progress.phase(
                    f"the node does not hold the base model {found.terms.base.hex()} yet"
                )
            return False
        return True

    def _part(self, round_id: Digest, found: FederatedRound) -> Participant:
        privacy = privacy_in(round_id, self._store, self.device, self._promise)
        if privacy is not None and self._promise is None:
            name = titled(found.terms.name, round_id)
            self._progress.phase(f"{name} goes on with {privacy.promise}, as promised")
        return Participant(
            round_id,
            self.device,
            store=self._store,
            port=self._port,
            train=self._shard.train,
            random=SystemRandom(),
            complains=self._complains,
            shows=self._shows,
            tell=self._progress.phase,
            privacy=privacy,
        )

    def _leave(self, round_id: Digest) -> None:
        """Look at a round no more."""
        self._left.add(round_id)
        self._parts.pop(round_id, None)
        self._waits.pop(round_id, None)

    def _say_phase(self, round_id: Digest, found: FederatedRound) -> None:
        name = titled(found.terms.name, round_id, digits=8)
        until = "" if found.deadline is None else f", until height {found.deadline}"
        self._say(round_id, f"{name}: {found.phase}{until}")
        waits = waits_for(found.phase, deadline=found.deadline, count=len(awaited(found)))
        self._waits[round_id] = f"{name} {waits}"

    def _say_away(self, error: CliError) -> None:
        text = f"waiting for the node: {error.what} (asked again for {PATIENCE_S / 60:g} minutes)"
        if self._said.get(None) != text:
            # So that what is waited for is said again once the node answers.
            self._said.clear()
            self._say(None, text)

    def _say(self, round_id: Digest | None, text: str) -> None:
        """Print a line, unless it was the last about the same."""
        if self._said.get(round_id) != text:
            self._said[round_id] = text
            self._progress.phase(text)


def why_shown(found: FederatedRound) -> str | None:
    """Tell why the update of a participant could be seen in this round, or None: masks hide it.

    A sum in which one weighs many times as much as the others is much the same as that one.
    """
    if not found.terms.is_masked:
        return "the federated round masks no updates: everybody sees them"
    weights = [member.weight for member in found.members]
    if max(weights) > WEIGHTS_APART_MAX * min(weights):
        return (
            f"a participant of the federated round weighs {max(weights)}, another {min(weights)}:"
            " the sum of a group would show the update of the heavier"
        )
    return None


def _is_passing(error: SecureNetError) -> bool:
    """Tell whether the same may succeed later."""
    if isinstance(error, Refused):
        return error.status in (429, 503, 507)
    return isinstance(error, Unreachable | TimedOut)


def _was_missed(error: SecureNetError) -> bool:
    """Tell whether a round is refused because the device had not joined it in time."""
    return isinstance(error, Refused) and error.code in ("round_closed", "too_late")


async def _watch(client: Client, news: asyncio.Event) -> None:
    """Tell of every block. Where nothing is heard, who waits looks for itself now and then."""
    while True:
        with suppress(Unreachable, Refused):
            async with aclosing(client.events({"subscribe": ["block"]})) as events:
                async for _ in events:
                    news.set()
        await asyncio.sleep(RETRY_S)


def _refused(code: str, detail: str) -> Refused:
    return Refused(status=422, code=code, detail=detail)
