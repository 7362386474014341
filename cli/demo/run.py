"""The demonstration itself, over the HTTP RPC of a network that runs."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from chain.crypto import SigningKey
from chain.genesis import Genesis
from chain.kinds.device_data import DeviceData
from chain.limits import RateWindow
from chain.transactions import Transaction
from cli.client import Client, connect
from cli.demo import attack
from cli.demo.judgement import Judgement, judge, wait_verdicts
from cli.demo.report import NodeReport, Report
from cli.demo.traffic import ATTACKER_NAMES, NORMAL_NAMES, Row, batches
from cli.errors import Missed, TimedOut
from cli.load.fleet import make_device, register, wait_height
from cli.load.post import Post
from cli.load.watch import Commit, CommitWatch, percentile
from cli.progress import Bar, Progress
from cli.signing import Sender, registrar_sender
from cli.tasks import first_error
from node.clock import SystemClock

BATCH: Final = 100
UNDER_WAY_MAX: Final = 2_000
"""Flows that are sent and not committed; more would only wait in the pools."""
SETTLE_TIMEOUT_S: Final = 70.0
"""A little longer than a transaction lives."""
ATTEMPTS: Final = 5

_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of the flows."""

    labels: dict[str, bool]
    started_ns: int


class Demo:
    """One run of the demonstration.

    Parameters
    ----------
    rpcs : sequence of str
        Addresses of the nodes; the first one's blocks are followed.
    registrar : SigningKey
        Of the only organisation.
    rows : list of Row
        What the devices send.
    """

    def __init__(
        self, rpcs: Sequence[str], registrar: SigningKey, rows: list[Row], progress: Progress
    ) -> None:
        self._rpcs = rpcs
        self._registrar_key = registrar
        self._rows = rows
        self._progress = progress

    async def run(self) -> Report:
        """Run it.

        Raises
        ------
        Missed
            Something is not as it should be: nodes differ, a hostile attempt is not refused by the
            step that should, or transactions are unaccounted for.
        """
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(connect(rpc, attempts=ATTEMPTS))
                for rpc in self._rpcs
            ]
            watch = CommitWatch(clients[0])
            stack.enter_context(first_error())
            async with asyncio.TaskGroup() as group:
                following = group.create_task(watch.run(1))
                report = await self._run(clients, watch)
                following.cancel()
        return report

    async def _run(self, clients: Sequence[Client], watch: CommitWatch) -> Report:
        genesis = await clients[0].genesis()
        registrar = registrar_sender(genesis, self._registrar_key, None)
        post = Post(watch)
        fleet = {name: make_device(genesis, registrar) for name in (*NORMAL_NAMES, *ATTACKER_NAMES)}
        flooder = make_device(genesis, registrar)
        self._progress.phase(f"registering {len(fleet)} devices")
        registered = await register(clients[0], watch, registrar, fleet)
        limit = (RateWindow(capacity=attack.FLOOD_LIMIT, seconds=60),)
        registered += await register(
            clients[0], watch, registrar, {"flooder": flooder}, limits=limit
        )
        await wait_height(clients, watch.height)

        flows = await self._send_flows(clients, watch, post, fleet)
        await self._attempt_attacks(clients, watch, post, genesis, registrar, fleet, flooder)
        self._progress.phase("waiting until every flow is committed or refused")
        await _settle(clients[0], watch, post)
        commits = {id: c for id, c in watch.commits.items() if id in flows.labels}
        self._progress.phase("waiting for the verdicts on every flow")
        verdicts = await wait_verdicts(
            clients[0], {commit.height for commit in commits.values()}, len(genesis.miners)
        )
        judgement = judge(commits, flows.labels, verdicts, len(genesis.miners))
        attackers, others = await self._quarantined(clients, watch, post, fleet)
        nodes = await _compare(clients)
        return _report(
            registered + post.sent, watch, post, flows, commits, judgement, nodes, attackers, others
        )

    async def _send_flows(
        self,
        clients: Sequence[Client],
        watch: CommitWatch,
        post: Post,
        fleet: dict[str, Sender],
    ) -> _Outcome:
        labels: dict[str, bool] = {}
        started_ns = _CLOCK.monotonic_ns()
        todo = batches(self._rows, BATCH)
        with self._progress.bar("submitting flows", len(self._rows)) as bar:
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(_send_batches(client, todo, watch, post, fleet, labels, bar))
        return _Outcome(labels=labels, started_ns=started_ns)

    async def _attempt_attacks(
        self,
        clients: Sequence[Client],
        watch: CommitWatch,
        post: Post,
        genesis: Genesis,
        registrar: Sender,
        fleet: dict[str, Sender],
        flooder: Sender,
    ) -> None:
        self._progress.phase("making hostile attempts")
        victim = fleet[NORMAL_NAMES[0]]
        stranger = make_device(genesis, registrar)
        genuine = await _commit_readings(clients, watch, post, victim, attack.TIMES)
        await _commit_readings(clients, watch, post, flooder, attack.FLOOD_LIMIT)
        for attempt in (
            attack.unregistered(stranger),
            attack.forged(victim, stranger),
            attack.replayed(genuine),
            attack.expired(victim),
            attack.flooding(flooder),
            attack.overreaching(victim),
            attack.foreign(victim),
        ):
            await _attempt(clients, post, attempt)

    async def _quarantined(
        self,
        clients: Sequence[Client],
        watch: CommitWatch,
        post: Post,
        fleet: dict[str, Sender],
    ) -> tuple[int, int]:
        """Count the quarantined devices, and let one of the attackers try again."""
        await wait_height(clients, watch.height)
        devices = await clients[0].pages("/v1/devices", limit=1_000, status="quarantined")
        ids = {device["id"] for device in devices}
        attackers = [fleet[n] for n in ATTACKER_NAMES if fleet[n].address.hex() in ids]
        if attackers:
            await _attempt(clients, post, attack.quarantined(attackers[0]))
        return len(attackers), len(ids) - len(attackers)


async def _send_batches(
    client: Client,
    todo: Iterator[list[Row]],
    watch: CommitWatch,
    post: Post,
    fleet: dict[str, Sender],
    labels: dict[str, bool],
    bar: Bar,
) -> None:
    """Sign and send batches from `todo`, which all clients share, until none is left."""
    for rows in todo:
        await watch.room(UNDER_WAY_MAX)
        signed = [
            fleet[row.device].sign("device.data", DeviceData(payload=row.flow)) for row in rows
        ]
        ids = [transaction.id.hex() for transaction in signed]
        labels.update((id, row.is_attack) for id, row in zip(ids, rows, strict=True))
        await post.send(client, [transaction.wire for transaction in signed], ids)
        bar.advance(len(rows))


async def _commit_readings(
    clients: Sequence[Client], watch: CommitWatch, post: Post, device: Sender, count: int
) -> list[Transaction]:
    """Send readings as an honest device does, and return them once all nodes have them."""
    sent = [device.sign("device.data", attack.reading(n)) for n in range(count)]
    ids = [transaction.id.hex() for transaction in sent]
    await post.send(clients[0], [transaction.wire for transaction in sent], ids)
    if not await watch.settled(ids, timeout_s=SETTLE_TIMEOUT_S):
        raise TimedOut("readings of an honest device do not commit", "see the nodes' logs")
    await wait_height(clients, max(watch.commits[id].height for id in ids if id in watch.commits))
    return sent


async def _attempt(clients: Sequence[Client], post: Post, attempt: attack.Attempt) -> None:
    """Make a hostile attempt, spread over the nodes; every part has to be refused by its step."""
    for place, client in enumerate(clients):
        part = attempt.transactions[place :: len(clients)]
        if not part:
            continue
        post.sent += len(part)
        for result in await client.submit_batch([transaction.wire for transaction in part]):
            code = "nothing" if result.refusal is None else result.refusal.code
            if code != attempt.code:
                raise Missed(
                    f"a transaction {attempt.name} was refused by {code}, not by {attempt.code}",
                    "see the nodes' logs",
                )
            post.refused[code] += 1


async def _settle(client: Client, watch: CommitWatch, post: Post) -> None:
    """Find out what became of the transactions which are pooled and not committed."""
    deadline = _CLOCK.monotonic_ns() + int(SETTLE_TIMEOUT_S * 1e9)
    while outstanding := watch.outstanding():
        for id in outstanding:
            answer = await client.transaction(id)
            if answer["status"] in ("rejected", "expired"):
                post.note_refused(id, answer["code"] or answer["status"])
        if _CLOCK.monotonic_ns() > deadline:
            raise TimedOut(
                f"{len(watch.outstanding())} transactions are neither committed nor refused",
                "see the nodes' logs",
            )
        await watch.block_or(0.5)


async def _compare(clients: Sequence[Client]) -> tuple[NodeReport, ...]:
    """Return what every node says of one height that all have.

    Raises
    ------
    Missed
        They differ.
    """
    height = max([(await client.status())["height"] for client in clients])
    await wait_height(clients, height)
    headers = [(await client.block(height))["header"] for client in clients]
    nodes = tuple(
        NodeReport(
            height=header["height"], block_hash=header["hash"], state_root=header["state_root"]
        )
        for header in headers
    )
    if len(set(nodes)) != 1:
        raise Missed(f"the nodes differ at height {height}: {nodes}", "keep the logs and report it")
    return nodes


def _report(
    submitted: int,
    watch: CommitWatch,
    post: Post,
    flows: _Outcome,
    commits: dict[str, Commit],
    judgement: Judgement,
    nodes: tuple[NodeReport, ...],
    attackers: int,
    others: int,
) -> Report:
    rejected: Counter[str] = post.refused
    committed = len(watch.commits)
    if committed + rejected.total() != submitted:
        raise Missed(
            f"{submitted} transactions were submitted, {committed} committed and "
            f"{rejected.total()} refused",
            "see the nodes' logs for the others",
        )
    last_ns = max((commit.at_ns for commit in commits.values()), default=flows.started_ns)
    seconds = (last_ns - flows.started_ns) / 1e9
    latencies = [commit.latency_ms for commit in commits.values()]
    return Report(
        nodes=nodes,
        submitted=submitted,
        committed=committed,
        tx_per_s=len(commits) / seconds if seconds else 0.0,
        latency_p50_ms=percentile(latencies, 50),
        latency_p99_ms=percentile(latencies, 99),
        rejected=rejected,
        precision=judgement.precision,
        recall=judgement.recall,
        false_positive_rate=judgement.false_positive_rate,
        attackers_quarantined=attackers,
        others_quarantined=others,
    )
