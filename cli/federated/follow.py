"""A device that follows the chain and takes part in federated rounds as they come."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

from chain.errors import DecodeError, SecureNetError
from chain.federated.records import (
    OPEN_PHASES,
    PARTICIPANTS_MAX,
    ROUND_TABLE,
    SHARES_TABLE,
    FederatedRound,
    SharesRecord,
)
from chain.types import Address, Digest
from cli.client import Client, Document
from cli.errors import BadInput, CliError, Refused, TimedOut, Unreachable
from cli.federated.memory import MemoryStore
from cli.federated.participant import Participant, member_of
from cli.federated.privacy import Privacy
from cli.federated.shard import Shard
from cli.progress import Progress
from cli.proofs import ProvenState
from cli.render import show_error
from cli.signing import Sender, submit
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

    async def bear(self, error: CliError) -> None:
        """Wait before the node is asked again; raises `error` where that is no use."""
        waited_s = (self._clock.monotonic_ns() - self._seen_ns) / 1e9
        if not _is_passing(error) or waited_s > PATIENCE_S:
            raise error
        await asyncio.sleep(RETRY_S)


async def fetch_round(client: Client, round_id: Digest) -> FederatedRound:
    """Return a federated round; raises `Refused` where there is none."""
    document = await client.get(f"/v1/rounds/{round_id.hex()}")
    found: FederatedRound = _parsed(client, ROUND_TABLE.record, document)
    return found


class RoundReader:
    """The federated rounds as a node tells of them, proven where a hash is trusted.

    Parameters
    ----------
    trust : Digest or None
        Hash of a block, or of the genesis document. None: the node is believed.
    """

    def __init__(self, client: Client, trust: Digest | None) -> None:
        self._client = client
        self._proven = None if trust is None else ProvenState(client, trust)

    async def find(self, round_id: Digest) -> FederatedRound:
        """Return a round; raises `Refused` if there is none, `Missed` if it is not proven."""
        if self._proven is None:
            return await fetch_round(self._client, round_id)
        path = f"/v1/rounds/{round_id.hex()}/proof"
        found = await self._proven.record(path, ROUND_TABLE, round_id)
        if found is None:
            detail = f"there is no federated round {round_id.hex()}, or it is long over"
            raise Refused(status=404, code="not_found", detail=detail)
        return found

    async def shares(
        self, round_id: Digest, owners: Iterable[Address]
    ) -> Mapping[Address, SharesRecord]:
        """Return what members have handed to the others, if they have; raises as `find`."""
        path = f"/v1/rounds/{round_id.hex()}/shares"
        if self._proven is None:
            items = await self._client.pages(path, limit=PARTICIPANTS_MAX)
            return {
                Address(bytes.fromhex(item["device"])): _parsed(
                    self._client, SHARES_TABLE.record, item
                )
                for item in items
            }
        proven = {}
        for owner in owners:
            key = round_id + owner
            record = await self._proven.record(f"{path}/{owner.hex()}/proof", SHARES_TABLE, key)
            if record is not None:
                proven[owner] = record
        return proven


class ChainPort:
    """The chain as one device sees it through one node; a `RoundPort`."""

    def __init__(self, client: Client, sender: Sender, reader: RoundReader) -> None:
        self._client = client
        self._sender = sender
        self._reader = reader

    async def height(self) -> int:
        """Return how far the node says that the chain is; it decides who speaks first alone."""
        return int((await self._client.status())["height"])

    async def shares(
        self, round_id: Digest, owners: Iterable[Address]
    ) -> Mapping[Address, SharesRecord]:
        """Return what members have handed to the others."""
        return await self._reader.shares(round_id, owners)

    async def send(self, kind: str, body: Any) -> None:
        """Send a transaction of the device and wait until it is committed."""
        await submit(self._client, self._sender.sign(kind, body), wait=True)

    async def hand_in(self, digest: Digest, data: bytes) -> None:
        """Hand a blob to the node."""
        await self._client.put_blob(digest.hex(), data)


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
    privacy : Privacy, optional
        As in `Participant`.
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
        privacy: Privacy | None = None,
    ) -> None:
        self.device = sender.address
        self._client = client
        self._reader = RoundReader(client, trust)
        self._port = ChainPort(client, sender, self._reader)
        self._shard = shard
        self._store = store
        self._progress = progress
        self._tell = tell
        self._complains = complains
        self._shows = shows
        self._privacy = privacy
        self._parts: dict[Digest, Participant] = {}
        self._unfinished = store.unfinished(sender.address)
        self._left: set[Digest] = set()
        """Rounds of others, those that are over, and those in which it cannot go on."""
        self._said: dict[Digest, str] = {}
        self._awaiting: set[Digest] = set()
        """Rounds whose base model the node did not hold."""

    async def run(self, chosen: Digest | None, *, forever: bool) -> FederatedRound:
        """Take part until a round is over, and return it; with `forever`, in one after another.

        Parameters
        ----------
        chosen : Digest or None
            The round; None: the next that invites the device.

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
        while True:
            news.clear()
            try:
                for round_id in await self._rounds(chosen):
                    if chosen is None:
                        over = await self._look(round_id, stays=forever)
                    else:
                        over = await self._act(chosen, await self._reader.find(chosen))
                    if over is not None and not forever:
                        return over
                patience.renew()
            except CliError as error:
                await patience.bear(error)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await news.wait()

    async def _rounds(self, chosen: Digest | None) -> Sequence[Digest]:
        """Return the rounds to look at: the chosen one, or all open and all unfinished ones."""
        if chosen is not None:
            return (chosen,)
        items = await self._client.pages("/v1/rounds", limit=ROUNDS_MAX)
        open_ids = [
            Digest(bytes.fromhex(item["id"])) for item in items if item["phase"] in OPEN_PHASES
        ]
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
            self._left.add(round_id)
            return None
        is_mine = False
        try:
            is_mine = round_id in self._parts or self._may_take_part(round_id, found)
            return await self._act(round_id, found) if is_mine else None
        except SecureNetError as error:
            if _is_passing(error) or not stays:
                raise
            # One round that goes wrong is no reason to miss the others.
            what, advice = str(error), "this federated round goes on without the device"
            if isinstance(error, CliError):
                what, advice = error.what, error.advice
            show_error(what, advice)
            is_mine = False
            return None
        finally:
            if not is_mine:
                self._left.add(round_id)
                self._parts.pop(round_id, None)

    def _may_take_part(self, round_id: Digest, found: FederatedRound) -> bool:
        if found.position_of(self.device) is None:
            return False
        if self._store.find(round_id, self.device) is not None:
            return True
        return found.phase == "join" and (self._shows or self._why_shown(round_id, found) is None)

    def _why_shown(self, round_id: Digest, found: FederatedRound) -> str | None:
        """Tell why the own update could be seen, if not in this round alone then beside another.

        Who trains from one model twice sends much the same twice. So two sums of which one lacks a
        single participant show what that one has sent. Noise is of each round anew, and counted.
        """
        base = found.terms.base
        if self._privacy is None and self._store.has_told(self.device, base, besides=round_id):
            return (
                f"another federated round has an update of this device from base {base.hex()}:"
                " what their two sums differ by shows single updates"
            )
        return why_shown(found)

    async def _act(self, round_id: Digest, found: FederatedRound) -> FederatedRound | None:
        part = self._parts.setdefault(round_id, self._part(round_id))
        self._say(round_id, found)
        if found.is_open:
            if found.phase == "join":
                shown = self._why_shown(round_id, found)
                is_new = member_of(found, self.device).mask_key is None
                if shown is not None and is_new and not self._shows:
                    raise BadInput(shown, "sit it out, or take part with --unmasked all the same")
                if is_new and self._privacy is not None:
                    self._privacy.check(round_id, found)
                # Before anything is promised to the others.
                if not await self._is_prepared(round_id, found):
                    return None
            await part.act(found)
            return None
        part.close(found)
        self._parts.pop(round_id, None)
        self._left.add(round_id)
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

    def _part(self, round_id: Digest) -> Participant:
        return Participant(
            round_id,
            self.device,
            store=self._store,
            port=self._port,
            train=self._shard.train,
            random=SystemRandom(),
            complains=self._complains,
            privacy=self._privacy,
        )

    def _say(self, round_id: Digest, found: FederatedRound) -> None:
        if self._said.get(round_id) != found.phase:
            self._said[round_id] = found.phase
            until = "" if found.deadline is None else f", until height {found.deadline}"
            name = f"{found.terms.name} ({round_id.hex()[:8]})"
            self._progress.phase(f"federated round {name}: {found.phase}{until}")


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


async def _watch(client: Client, news: asyncio.Event) -> None:
    """Tell of every block. Where nothing is heard, who waits looks for itself now and then."""
    while True:
        with suppress(Unreachable, Refused):
            async with aclosing(client.events({"subscribe": ["block"]})) as events:
                async for _ in events:
                    news.set()
        await asyncio.sleep(RETRY_S)


def _parsed(client: Client, record: Any, document: Document) -> Any:
    """Read the fields of a record out of what the RPC answers, which may hold more."""
    try:
        return record.parse({name: document.get(name) for name in record.fields}, "answer")
    except DecodeError as error:
        raise Unreachable(client.url, f"its answer is no federated round ({error})") from error
