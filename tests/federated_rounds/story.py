"""Rounds in which participants are killed, send poison, reveal and hand out false shares.

What can be borne at once is arithmetic (docs/spec/aggregation.md, sections 2 and 4): ten
participants make three groups only if nobody is missing in those of three, and only three groups
outvote a spoiled one. So rounds take turns:

* *median of three groups*: one participant sends poison, which no coordinate of the aggregate shows
  more of than honest groups differ; one of the group of four reveals false shares; two are killed
  and come back.
* *one group of ten*, of which three may be missing: one hands a false share to another, which
  proves it on the chain, so that both are out; or one reveals false shares. Killed ones stay away
  as far as that leaves room. Poison is bounded by the clip alone.

In the last round one miner says a made-up aggregate.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from sys import executable
from time import monotonic
from typing import Any, Final

from chain.crypto import address_of
from chain.federated.boxes import padded_count
from chain.federated.records import STATUSES, threshold
from chain.kinds.device_data import DeviceData
from chain.types import Digest
from cli.client import Client
from ml_validator.artifact import Artifact, load_artifact
from ml_validator.detector import Detector
from ml_validator.nsl_kdd import Record, write_records
from ml_validator.training import judge
from tests.e2e.consortium import (
    ROUND_S,
    Gateway,
    at_phase,
    gateways,
    register,
    untrained,
    untrained_file,
)
from tests.e2e.network import POLL_S, LiveNetwork, commit, live_network, patience, reading
from tests.e2e.test_membership import Operators
from tests.federated_rounds.outside import Seen, read_blob, see
from tests.federated_rounds.shards import Dealt

LIAR_MINER: Final = 3
FLOWS: Final = 40
SENSORS: Final = 4
TERMS: Final = ("--steps", "100", "--clip", "0.1", "--deadlines", "30,20,30,15,20,60")
MOMENTS: Final = ("joined", "shared", "committed")
"""A victim is killed when the chain says this of it."""

_HERE: Final = Path(__file__).parent
LYING_MINER: Final = _HERE / "lying_miner.py"
POISONER: Final = _HERE / "poisoning_participant.py"
CHEAT: Final = _HERE / "cheating_participant.py"
FALSE_REVEALER: Final = _HERE.parent / "e2e" / "lying_participant.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a round is laid out, and what happens in it.

    Parameters
    ----------
    cheats : bool
        Somebody hands out a false share; else somebody reveals false ones.
    away : int
        How many of the killed stay away.
    """

    name: str
    options: tuple[str, ...]
    cheats: bool
    away: int


_ONE: Final = ("--group-size", "10", "--rule", "mean", "--tolerated", "0")
SHAPES: Final = (
    Shape(
        name="median of three groups",
        options=("--group-size", "3", "--rule", "median", "--tolerated", "1"),
        cheats=False,
        away=0,
    ),
    Shape(name="one group of ten, a cheat", options=_ONE, cheats=True, away=1),
    Shape(name="one group of ten, a liar", options=_ONE, cheats=False, away=2),
)
TURNS: Final = (SHAPES[0], SHAPES[1], SHAPES[0], SHAPES[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a round has come to."""

    took_s: float
    accuracy_ppm: int
    fates: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What all rounds have come to."""

    base_ppm: int
    rounds: list[Told] = field(default_factory=list)
    peak_bytes: int = 0
    judged: int = 0


class Story:
    """The rounds, one after another.

    Parameters
    ----------
    unseen : sequence of Record
        Rows on which nobody trains.
    chance : Random
        Decides who is killed, and when.
    say : callable
        Told of what happens.
    all_come_back : bool
        As in `tell`.
    """

    def __init__(
        self,
        network: LiveNetwork,
        folder: Path,
        made: Sequence[Gateway],
        *,
        unseen: Sequence[Record],
        chance: Random,
        say: Callable[[str], None],
        all_come_back: bool,
    ) -> None:
        self._network = network
        self._operators = Operators(network, folder)
        self._folder = folder
        # In the order of their ids, as in the groups; the last one sends poison all along.
        self._made = sorted(made, key=lambda gateway: gateway.id)
        self._unseen = unseen
        self._chance = chance
        self._say = say
        self._all_come_back = all_come_back

    @property
    def poisoner(self) -> Gateway:
        """Who sends poison; never killed."""
        return self._made[-1]

    async def run(self, rounds: int, publisher: Path) -> Outcome:
        """Let everything happen; fails with what is wrong."""
        published = untrained()
        outcome = Outcome(base_ppm=judge(published, self._unseen).accuracy_ppm)
        file = untrained_file(self._folder)
        for number in range(rounds):
            is_last = number == rounds - 1
            if is_last:
                await self._replace_miner()
            self._take_back()
            shape = TURNS[number % len(TURNS)]
            began_s = monotonic()
            round_id, fates = await self._live_through(shape, file)
            took_s = monotonic() - began_s
            seen = await self._check(round_id, shape, fates, is_last=is_last)
            published = await self._publish(round_id, publisher)
            file = self._folder / f"model-{number}.safetensors"
            file.write_bytes(published.data)
            told = Told(
                took_s=took_s,
                accuracy_ppm=judge(published, self._unseen).accuracy_ppm,
                fates=", ".join([str(fate) for fate in fates]),
            )
            outcome.rounds.append(told)
            included = sum(member.status == "included" for member in seen.found.members)
            self._say(
                f"round {number + 1}, {shape.name}: {told.took_s:.1f} s, {included} of "
                f"{len(self._made)} included, {told.accuracy_ppm / 10_000:.2f} %; {told.fates}"
            )
        self._measure()
        outcome.peak_bytes = max([gateway.peak_bytes for gateway in self._made])
        outcome.judged = await self._judge_traffic(published)
        await self._network.wait_equal()
        return outcome

    def _start(self, gateway: Gateway, program: Path | None = None) -> None:
        if gateway is self.poisoner:
            program = POISONER
        gateway.start(None, "--complain", program=program)

    def _restart(self, gateway: Gateway, program: Path | None = None) -> None:
        if gateway.is_running:
            gateway.measure()
            gateway.kill()
        self._start(gateway, program)

    def _take_back(self) -> None:
        """Start whoever is away."""
        for gateway in self._made:
            if not gateway.is_running:
                self._start(gateway)

    def _measure(self) -> None:
        for gateway in self._made:
            if gateway.is_running:
                gateway.measure()

    async def _replace_miner(self) -> None:
        self._network.stop(LIAR_MINER)
        self._network.start(LIAR_MINER, through=[executable, str(LYING_MINER)])
        await self._network.wait_ready()

    # --- one round --------------------------------------------------------------------------------

    async def _live_through(self, shape: Shape, base: Path) -> tuple[str, list["Fate"]]:
        """Open a round and let its participants meet their fates; return once it is over."""
        client = await self._network.client(0)
        cheat = self._chance.choice(self._made[:-1]) if shape.cheats else None
        if cheat is not None:
            self._restart(cheat, CHEAT)
        opened = await self._operators.run(
            "fl", "start", "--key", str(self._network.layout.registrar_key), "--base", str(base),
            *TERMS, *shape.options,
        )  # fmt: skip
        round_id = str(opened["id"])
        liar = None
        if cheat is None:
            found = await at_phase(client, round_id, "share")
            liar = self._choose_liar(found)
            self._restart(liar, FALSE_REVEALER)
        spared = {cheat, liar, None if cheat is None else self._cheated_by(cheat)}
        victims = self._chance.sample([one for one in self._made[:-1] if one not in spared], 2)
        fates = [
            Fate(
                gateway=victim,
                moment=self._chance.choice(MOMENTS),
                comes_back=self._all_come_back or place >= shape.away,
            )
            for place, victim in enumerate(victims)
        ]
        async with asyncio.TaskGroup() as tasks:
            for fate in fates:
                tasks.create_task(self._meet(fate, client, round_id))
        found = await at_phase(client, round_id, "finished", "failed", "aborted")
        assert found["phase"] == "finished", (found["reason"], found["void"], _statuses(found))
        if cheat is not None:
            self._restart(cheat)
            fates.append(Fate(gateway=cheat, moment="a false share", comes_back=True))
        if liar is not None:
            assert "wrong_share" in liar.said(), liar.said()[-2_000:]
            self._restart(liar)
            fates.append(Fate(gateway=liar, moment="a false reveal", comes_back=True))
        return round_id, fates

    def _cheated_by(self, cheat: Gateway) -> Gateway:
        """Return who gets the first box of a cheat, a false share: it is out of the round too."""
        others = [one for one in self._made if one is not cheat]
        return others[padded_count(len(self._made))]

    def _choose_liar(self, found: dict[str, Any]) -> Gateway:
        """Return somebody without whose shares its group does."""
        groups: dict[int, list[str]] = {}
        for member in found["members"]:
            groups.setdefault(member["group"], []).append(member["device"])
        spare = {
            device
            for members in groups.values()
            if len(members) > threshold(len(members))
            for device in members
        }
        assert spare, f"no group can spare a member: {_statuses(found)}"
        return self._chance.choice([one for one in self._made[:-1] if one.id.hex() in spare])

    async def _meet(self, fate: "Fate", client: Client, round_id: str) -> None:
        """Kill a participant at its moment, and start it again."""
        order = STATUSES.index(fate.moment)
        async with patience(f"{fate.gateway.name} has {fate.moment}", ROUND_S):
            while True:
                found = await client.get(f"/v1/rounds/{round_id}")
                if STATUSES.index(_statuses(found)[fate.gateway.id.hex()]) >= order:
                    break
                await asyncio.sleep(POLL_S)
        fate.gateway.measure()
        fate.gateway.kill()
        if fate.comes_back:
            self._start(fate.gateway)

    # --- what has to hold afterwards --------------------------------------------------------------

    async def _check(
        self, round_id: str, shape: Shape, fates: Sequence["Fate"], *, is_last: bool
    ) -> Seen:
        id = Digest(bytes.fromhex(round_id))
        seen = await see(await self._network.client(1), id)
        found = seen.found
        assert found.aggregate is not None
        honest = [vote for vote in found.votes if vote.digest == found.aggregate]
        assert len(honest) >= 3, found.votes
        overruled = [event for event in seen.events if event[0] == "aggregate_overruled"]
        miner = address_of(self._network.genesis.miners[LIAR_MINER].key)
        named = [("aggregate_overruled", round_id, miner.hex())] if is_last else []
        assert overruled == named
        for client in await self._network.clients():
            async with patience("every miner holds the aggregate"):
                while not await client.has_blob(found.aggregate.hex()):
                    await asyncio.sleep(POLL_S)
            assert await read_blob(client, found.aggregate) == seen.aggregate
        if found.terms.rule == "median":
            poisoned = found.members[found.position_of(self.poisoner.id) or 0].group
            assert seen.is_between([group for group in found.groups if group != poisoned])
        expelled = [event for event in seen.events if event[0] == "participant_expelled"]
        cheats = [fate.gateway for fate in fates if fate.moment == "a false share"]
        assert [event[2] for event in expelled] == [cheat.id.hex() for cheat in cheats]
        return seen

    async def _publish(self, round_id: str, publisher: Path) -> Artifact:
        key = str(self._network.layout.registrar_key)
        published = await self._operators.run(
            "fl", "publish", round_id, "--key", key, "--data", str(publisher)
        )
        digest = Digest(bytes.fromhex(published["model"]))
        return load_artifact(await read_blob(await self._network.client(0), digest))

    async def _judge_traffic(self, published: Artifact) -> int:
        """Vote the model in, send flows, and compare what the miners say of them."""
        network, model = self._network, published.digest.hex()
        async with patience("every miner holds the model"):
            for client in await network.clients():
                while not await client.has_blob(model):
                    await asyncio.sleep(POLL_S)
        operators, client = self._operators, await network.client(0)
        opened = await operators.run("model", "activate", model, "--key", operators.key(0))
        for number in (1, 2):
            await operators.run("miner", "vote", opened["id"], "--key", operators.key(number))
        known = {entry["id"]: entry for entry in await operators.run("model", "list")}
        sensors = await network.register_devices(SENSORS)
        while (await client.status())["height"] < known[model]["active_from_height"]:
            await commit(client, reading(sensors[0]))
        sent = {}
        for number, record in enumerate(self._unseen[:FLOWS]):
            body = DeviceData(payload=record.flow)
            transaction = sensors[number % SENSORS].sign("device.data", body)
            sent[transaction.id.hex()] = (transaction, record.flow)
        await client.submit_batch([transaction.wire for transaction, _ in sent.values()])
        placed: dict[int, list[tuple[int, str]]] = {}
        for id in sent:
            found = await client.wait_committed(id, timeout_s=60)
            placed.setdefault(found["height"], []).append((found["index"], id))
        detector = Detector(published)
        expected = {
            height: detector.judge([sent[id][1] for _, id in sorted(places)])
            for height, places in placed.items()
        }
        wanted = {
            (height, address_of(miner.key).hex())
            for height in expected
            for miner in network.genesis.miners
        }
        async with patience("every miner has judged the flows"):
            while wanted:
                await commit(client, reading(sensors[0]))
                for verdict in await client.pages("/v1/verdicts", limit=10_000):
                    if verdict["judged_height"] in expected:
                        assert verdict["model"] == model
                        assert verdict["scores_ppm"] == expected[verdict["judged_height"]]
                        wanted.discard((verdict["judged_height"], verdict["miner"]))
        return len(sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What happens to a participant in a round."""

    gateway: Gateway
    moment: str
    comes_back: bool

    def __str__(self) -> str:
        if self.moment not in MOMENTS:
            return f"{self.gateway.name}: {self.moment}"
        ends = "back" if self.comes_back else "away"
        return f"{self.gateway.name} killed when {self.moment}, {ends}"


async def tell(
    folder: Path,
    dealt: Dealt,
    *,
    rounds: int,
    seed: int,
    say: Callable[[str], None] = print,
    all_come_back: bool = False,
) -> Outcome:
    """Run the whole story in `folder`; raises `AssertionError` with what is wrong.

    Parameters
    ----------
    seed : int
        Who is killed when.
    all_come_back : bool
        Whether nobody stays away; then no deadline is waited for, and all goes faster.
    """
    rows = folder / "publisher.txt"
    write_records(rows, dealt.publisher)
    async with live_network(folder) as network:
        with gateways(network, folder, dealt.shards) as made:
            await register(network, await network.client(0), made)
            story = Story(
                network,
                folder,
                made,
                unseen=dealt.unseen,
                chance=Random(seed),
                say=say,
                all_come_back=all_come_back,
            )
            return await story.run(rounds, rows)


def _statuses(found: dict[str, Any]) -> dict[str, str]:
    return {member["device"]: member["status"] for member in found["members"]}
