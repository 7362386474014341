"""The demonstration itself, over the HTTP RPC of a network that runs."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
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
from cli.tasks import Guard, no_guard
from node.clock import SystemClock
from node.tasks import first_error

BATCH: Final = 100
UNDER_WAY_MAX: Final = 2_000
"""Flows that are sent and not committed; more would only wait in the pools."""
SETTLE_TIMEOUT_S: Final = 70.0
"""A little longer than a transaction lives."""
ATTEMPTS: Final = 5
DEVICES_MAX: Final = 1_000

_CLOCK: Final = SystemClock()


async def run_demo(
    rpcs: Sequence[str],
    registrar: SigningKey,
    rows: list[Row],
    progress: Progress,
    *,
    guard: Guard = no_guard,
) -> Report:
    """Let devices send `rows`, some of them attack, and find out what became of it all.

    Parameters
    ----------
    rpcs : sequence of str
        Addresses of the nodes; the first one's blocks are followed.
    registrar : SigningKey
        Of the only organisation.
    guard : callable
        Runs beside it, and raises when it makes no sense to go on.

    Raises
    ------
    Missed
        Something is not as it should be: nodes differ, a hostile attempt is not refused by the step
        that should, or transactions are unaccounted for.
    TimedOut
        Transactions or verdicts do not come.
    """
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(rpc, attempts=ATTEMPTS)) for rpc in rpcs]
        watch = CommitWatch(clients[0])
        stack.enter_context(first_error())
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(watch.run(1)), group.create_task(guard())]
            report = await _Demo(clients, watch, rows, progress).run(registrar)
            for task in beside:
                task.cancel()
    return report


@dataclass(slots=True)
class _Demo:
    """One run: what it talks to, and the account it keeps.

    Parameters
    ----------
    labels : dict of str
        Whether each flow, by its transaction's id, is part of an attack.
    """

    clients: Sequence[Client]
    watch: CommitWatch
    rows: list[Row]
    progress: Progress
    post: Post = field(init=False)
    fleet: dict[str, Sender] = field(default_factory=dict)
    labels: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.post = Post(self.watch)

    async def run(self, registrar_key: SigningKey) -> Report:
        genesis = await self.clients[0].genesis()
        registrar = registrar_sender(genesis, registrar_key, None)
        flooder = make_device(genesis, registrar)
        registered = await self._register(genesis, registrar, flooder)
        started_ns = _CLOCK.monotonic_ns()
        await self._send_flows()
        await self._attack(make_device(genesis, registrar), flooder)
        self.progress.phase("waiting until every flow is committed or refused")
        await self._settle()
        commits = {id: c for id, c in self.watch.commits.items() if id in self.labels}
        judgement = await self._judge(commits, len(genesis.miners))
        attackers, others = await self._quarantined()
        nodes = await self._compare()
        self._balance(registered + self.post.sent)
        last_ns = max((commit.at_ns for commit in commits.values()), default=started_ns)
        latencies = [commit.latency_ms for commit in commits.values()]
        return Report(
            nodes=nodes,
            submitted=registered + self.post.sent,
            committed=len(self.watch.commits),
            tx_per_s=len(commits) / max((last_ns - started_ns) / 1e9, 1e-9),
            latency_p50_ms=percentile(latencies, 50),
            latency_p99_ms=percentile(latencies, 99),
            rejected=self.post.refused,
            precision=judgement.precision,
            recall=judgement.recall,
            false_positive_rate=judgement.false_positive_rate,
            attackers_quarantined=attackers,
            others_quarantined=others,
        )

    async def _register(self, genesis: Genesis, registrar: Sender, flooder: Sender) -> int:
        names = (*NORMAL_NAMES, *ATTACKER_NAMES)
        self.fleet = {name: make_device(genesis, registrar) for name in names}
        self.progress.phase(f"registering {len(self.fleet)} devices")
        count = await register(self.clients[0], self.watch, registrar, self.fleet)
        limits = (RateWindow(capacity=attack.FLOOD_LIMIT, seconds=60),)
        count += await register(
            self.clients[0], self.watch, registrar, {"flooder": flooder}, limits=limits
        )
        await wait_height(self.clients, self.watch.height)
        return count

    async def _send_flows(self) -> None:
        """Send all rows, each client taking the next batch as soon as it has sent one."""
        todo = batches(self.rows, BATCH)

        async def send_batches(client: Client, bar: Bar) -> None:
            for rows in todo:
                await self.watch.room(UNDER_WAY_MAX)
                signed = [
                    self.fleet[row.device].sign("device.data", DeviceData(payload=row.flow))
                    for row in rows
                ]
                ids = [transaction.id.hex() for transaction in signed]
                self.labels.update((id, row.is_attack) for id, row in zip(ids, rows, strict=True))
                await self.post.send(client, [transaction.wire for transaction in signed], ids)
                bar.advance(len(rows))

        with self.progress.bar("submitting flows", len(self.rows)) as bar:
            async with asyncio.TaskGroup() as group:
                for client in self.clients:
                    group.create_task(send_batches(client, bar))

    async def _attack(self, stranger: Sender, flooder: Sender) -> None:
        self.progress.phase("making hostile attempts")
        victim = self.fleet[NORMAL_NAMES[0]]
        genuine = await self._commit_readings(victim, attack.TIMES)
        await self._commit_readings(flooder, attack.FLOOD_LIMIT)
        for attempt in (
            attack.unregistered(stranger),
            attack.forged(victim, stranger),
            attack.replayed(genuine),
            attack.expired(victim),
            attack.flooding(flooder),
            attack.overreaching(victim),
            attack.foreign(victim),
        ):
            await make_attempt(self.clients, self.post, attempt)

    async def _commit_readings(self, device: Sender, count: int) -> list[Transaction]:
        """Send readings as an honest device does, and return them once all nodes have them."""
        sent = [device.sign("device.data", attack.reading(n)) for n in range(count)]
        ids = [transaction.id.hex() for transaction in sent]
        await self.post.send(self.clients[0], [transaction.wire for transaction in sent], ids)
        in_time = await self.watch.settled(ids, timeout_s=SETTLE_TIMEOUT_S)
        if not in_time or not all(id in self.watch.commits for id in ids):
            raise TimedOut("readings of an honest device do not commit", "see the nodes' logs")
        await wait_height(self.clients, max(self.watch.commits[id].height for id in ids))
        return sent

    async def _settle(self) -> None:
        """Find out what became of the transactions which are pooled and not committed."""
        deadline = _CLOCK.monotonic_ns() + int(SETTLE_TIMEOUT_S * 1e9)
        while outstanding := self.watch.outstanding():
            for id in outstanding:
                answer = await self.clients[0].transaction(id)
                if answer["status"] in ("rejected", "expired"):
                    self.post.note_refused(id, answer["code"] or answer["status"])
            if _CLOCK.monotonic_ns() > deadline:
                raise TimedOut(
                    f"{len(self.watch.outstanding())} transactions are neither committed nor "
                    "refused",
                    "see the nodes' logs",
                )
            await self.watch.block_or(0.5)

    async def _judge(self, commits: Mapping[str, Commit], miners: int) -> Judgement:
        self.progress.phase("waiting for the verdicts on every flow")
        heights = {commit.height for commit in commits.values()}
        verdicts = await wait_verdicts(self.clients[0], heights, miners)
        return judge(commits, self.labels, verdicts, miners)

    async def _quarantined(self) -> tuple[int, int]:
        """Count the attackers and the others in quarantine; one of the attackers tries again."""
        await wait_height(self.clients, self.watch.height)
        devices = await self.clients[0].pages(
            "/v1/devices", limit=DEVICES_MAX, status="quarantined"
        )
        ids = {device["id"] for device in devices}
        senders = [self.fleet[name] for name in ATTACKER_NAMES]
        attackers = [sender for sender in senders if sender.address.hex() in ids]
        if attackers:
            await make_attempt(self.clients, self.post, attack.quarantined(attackers[0]))
        return len(attackers), len(ids) - len(attackers)

    async def _compare(self) -> tuple[NodeReport, ...]:
        """Return what every node says of one height that all have; raises `Missed`."""
        height = max([(await client.status())["height"] for client in self.clients])
        await wait_height(self.clients, height)
        headers = [(await client.block(height))["header"] for client in self.clients]
        nodes = tuple(
            NodeReport(
                height=header["height"], block_hash=header["hash"], state_root=header["state_root"]
            )
            for header in headers
        )
        if len(set(nodes)) != 1:
            raise Missed(
                f"the nodes differ at height {height}: {nodes}", "keep the logs and report it"
            )
        return nodes

    def _balance(self, submitted: int) -> None:
        committed, refused = len(self.watch.commits), self.post.refused.total()
        if committed + refused != submitted:
            raise Missed(
                f"{submitted} transactions were submitted, {committed} committed and {refused} "
                "refused",
                "see the nodes' logs for the others",
            )


async def make_attempt(clients: Sequence[Client], post: Post, attempt: attack.Attempt) -> None:
    """Make a hostile attempt, spread over the nodes.

    Raises
    ------
    Missed
        A part of it was not refused, or not by the step that should.
    """
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
