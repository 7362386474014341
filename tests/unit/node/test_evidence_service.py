"""Evidence that consensus finds is reported once, until it is on the chain or can never be."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chain.crypto import address_of
from chain.errors import Rejection
from chain.kinds import KINDS
from chain.records.miners import MINER_TABLE
from chain.transactions import PAYLOAD, SIGNATURE_TAG, Transaction, decode_transaction
from chain.types import Digest, Height, Round
from consensus.evidence import Evidence, conflict
from consensus.messages import Prepare, is_signed_by
from consensus.verifier import Verifier
from node.api import Submission
from node.errors import MempoolFull, NotSigned
from node.evidence_service import MARGIN_MS, RESCAN_S, EvidenceService
from node.own_transactions import OwnTransactions
from node.protocol import TRANSACTIONS
from tests.builders import digest_of, key_of
from tests.simulation.random_source import SeededRandom
from tests.unit.node.fakes import clock_of, simulated
from tests.unit.node.lone_node import LoneNode, settle
from tests.unit.node.storage.stored_chain import StoredChain

REPORTER, ACCUSED = 0, 3
KIND = KINDS["evidence"]


def id_of(number):
    return address_of(key_of(f"miner {number}").public)


class Reporter:
    """An evidence service over a chain, and an intake that answers what the test wants."""

    def __init__(self, stored: StoredChain | None = None, signer: Any = None) -> None:
        self.stored = StoredChain() if stored is None else stored
        self.chain = self.stored.chain
        self.sent: list[Transaction] = []
        self.refusal: Exception | None = None
        loop: Any = asyncio.get_running_loop()
        clock = clock_of(loop, start_ms=self.chain.next_time_ms)
        intake: Any = SimpleNamespace(submit=self.submit)
        own = OwnTransactions(
            genesis_hash=self.chain.genesis.hash,
            state=self.chain.state,
            intake=intake,
            keys=[key_of(f"miner {REPORTER}")] if signer is None else [],
            miner=id_of(REPORTER),
            clock=clock,
            random=SeededRandom(1),
            signer=signer,
        )
        self.service = EvidenceService(
            chain=self.stored.store, own=own, miner=id_of(REPORTER), clock=clock
        )

    async def submit(self, wires: Any) -> list[Submission]:
        transactions = [decode_transaction(wire) for wire in wires]
        self.sent += transactions
        return [Submission(id=tx.id, error=self.refusal) for tx in transactions]  # type: ignore[arg-type]

    def evidence(self, *, round: int = 0, number: int = ACCUSED) -> Evidence:
        """Return what a replica finds in two PREPAREs."""
        return evidence_of(self.chain.genesis.hash, round=round, number=number)

    @asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.service.run())
            yield
            task.cancel()

    async def demote(self, number: int) -> None:
        body = self.chain.equivocation(number, type="commit")
        await self.stored.commit(self.chain.by_miner(1, "evidence", body))

    @property
    def again_s(self) -> float:
        lifetime_ms = self.chain.context().parameters.transaction_lifetime_ms
        return (lifetime_ms + MARGIN_MS) / 1_000


def evidence_of(genesis_hash: Digest, *, round: int = 0, number: int = ACCUSED) -> Evidence:
    key = key_of(f"miner {number}")
    votes = [
        Prepare(
            sender=id_of(number), height=Height(1), round=Round(round), digest=digest_of(content)
        )
        for content in ("one", "another")
    ]
    signed = [
        replace(vote, signature=key.sign(b"securenet/vote/v1", vote.statement(genesis_hash)))
        for vote in votes
    ]
    assert all(is_signed_by(vote, key.public, genesis_hash, Verifier()) for vote in signed)
    found = conflict(*signed, genesis_hash=genesis_hash)
    assert found is not None
    return found


@simulated
async def test_what_is_found_is_sent_at_once_and_passes_the_rules_of_the_chain():
    reporter = Reporter()
    async with reporter.running():
        reporter.service.report(reporter.evidence())
        await asyncio.sleep(0.01)

    [transaction] = reporter.sent
    assert transaction.payload.sender == id_of(REPORTER)
    reporter.chain.commit(transaction)
    record = reporter.chain.state.get(MINER_TABLE, id_of(ACCUSED))
    assert record is not None
    assert record.status == "demoted"


@simulated
async def test_what_is_found_outlives_a_restart_until_it_is_settled():
    reporter = Reporter()
    reporter.refusal = MempoolFull(retry_after_ms=1_000)
    async with reporter.running():
        reporter.service.report(reporter.evidence())
        await asyncio.sleep(0.01)
    again = Reporter(reporter.stored)
    async with again.running():
        await asyncio.sleep(RESCAN_S + 1)
        again.refusal = Rejection("already_convicted", "somebody else has reported it")
        await asyncio.sleep(again.again_s + RESCAN_S)
    third = Reporter(reporter.stored)
    async with third.running():
        await asyncio.sleep(RESCAN_S + 1)

    assert [len(each.sent) for each in (reporter, again, third)] == [1, 2, 0]
    assert reporter.sent[0].payload.body == again.sent[0].payload.body


@simulated
async def test_of_one_miner_one_contradiction_is_reported():
    reporter = Reporter()
    async with reporter.running():
        for round in range(5):
            reporter.service.report(reporter.evidence(round=round))
            await asyncio.sleep(0.01)
        await asyncio.sleep(reporter.again_s - 1)

    assert len(reporter.sent) == 1


@simulated
async def test_a_report_that_got_lost_is_sent_again_when_it_has_expired_until_it_is_settled():
    reporter = Reporter()
    async with reporter.running():
        reporter.service.report(reporter.evidence())
        await asyncio.sleep(reporter.again_s + RESCAN_S)
        assert len(reporter.sent) == 2
        reporter.refusal = Rejection("already_convicted", "somebody else has reported it")
        await asyncio.sleep(3 * reporter.again_s)

    first, second, third = reporter.sent
    assert first.payload.body == second.payload.body == third.payload.body
    assert len({transaction.id for transaction in reporter.sent}) == 3


@pytest.mark.parametrize(
    ("refusal", "times"),
    [
        (Rejection("limit_reached", "too many are demoted"), 3),
        (MempoolFull(retry_after_ms=1_000), 3),
        (Rejection("expired", "the clock of this node is far behind the chain's time"), 3),
        (Rejection("too_early", "the chain was taken back"), 3),
        (Rejection("too_late", "it is old"), 1),
        (Rejection("pardoned", "it was restored"), 1),
        (Rejection("not_permitted", "the reporter was demoted"), 1),
    ],
)
@simulated
async def test_a_refusal_ends_it_unless_it_is_of_the_moment(refusal, times):
    reporter = Reporter()
    reporter.refusal = refusal
    async with reporter.running():
        reporter.service.report(reporter.evidence())
        await asyncio.sleep(2 * (reporter.again_s + RESCAN_S))

    assert len(reporter.sent) == times


@pytest.mark.parametrize("demoted", [ACCUSED, REPORTER])
@simulated
async def test_lies_of_the_demoted_are_not_reported_and_the_demoted_reports_none(demoted):
    reporter = Reporter()
    async with reporter.running():
        await reporter.demote(demoted)
        reporter.service.report(reporter.evidence())
        await asyncio.sleep(1)

    assert reporter.sent == []


@simulated
async def test_a_node_that_hears_two_votes_of_one_miner_sends_evidence_to_the_others():
    lone = LoneNode(REPORTER)
    found = evidence_of(lone.chain.genesis.hash)
    async with lone.running():
        for statement, signature in (
            (found.first, found.first_signature),
            (found.second, found.second_signature),
        ):
            vote = Prepare(
                sender=id_of(ACCUSED),
                height=Height(1),
                round=Round(0),
                digest=Digest(statement[-32:]),
                signature=signature,
            )
            lone.hear(ACCUSED, vote)
        await settle()
        await asyncio.sleep(1)

    sent = [
        decode_transaction(wire) for _, body in lone.wire.take(TRANSACTIONS) for wire in body.wires
    ]
    assert {transaction.payload.kind for transaction in sent} == {"evidence"}
    body = KIND.decode(sent[0])
    assert (body.miner, body.first, body.second) == (id_of(ACCUSED), found.first, found.second)
    assert "securenet_consensus_evidence_total 1.0" in lone.metrics.render().decode()


class FakeSigner:
    """A signer that can be lost."""

    def __init__(self) -> None:
        self.is_lost = True

    async def sign(self, key: Any, payload: Any) -> Any:
        if self.is_lost:
            raise NotSigned("lost")
        assert key == key_of(f"miner {REPORTER}").public
        return key_of(f"miner {REPORTER}").sign(SIGNATURE_TAG, PAYLOAD.encode(payload))


@simulated
async def test_evidence_is_kept_while_the_signer_is_lost_and_reported_once_it_is_back():
    signer = FakeSigner()
    reporter = Reporter(signer=signer)
    async with reporter.running():
        reporter.service.report(reporter.evidence())
        await settle()
        assert not reporter.sent
        assert reporter.stored.store.open_evidence()

        signer.is_lost = False
        await asyncio.sleep(reporter.again_s + RESCAN_S)

        assert reporter.sent
        assert reporter.sent[0].is_signed_by(key_of(f"miner {REPORTER}").public)
