"""One replica on the bench, and the means to speak to it in the name of every other miner."""

from typing import Any

from chain.certificate import SignedVote, VoteType
from consensus.durable import DurableState, recover
from consensus.events import MemoryShown, Received, StartHeight, Tick, WorkPending
from consensus.messages import Justification
from consensus.output import Output
from consensus.replica import Replica
from consensus.timers import NS_PER_MS
from tests.interaction.cluster import (
    TIMING,
    WALL_START_MS,
    make_config,
    make_proposal,
    miner_keys,
    miner_set,
    sign,
)
from tests.unit.consensus.plain import (
    BlockBuilt,
    Commit,
    Floor,
    Prepare,
    PrePrepare,
    ProposalChecked,
    RoundChange,
    VoteCertificate,
)

FRESH_LOG = (Floor(height=0),)


class Bench:
    """A replica at height 1, where miner ``(1 + round) % n`` proposes."""

    def __init__(
        self,
        n=4,
        me=0,
        records=FRESH_LOG,
        durable: DurableState | None = None,
        heard=True,
        remote=False,
    ):
        self.keys = miner_keys(n)
        self.miners = miner_set(self.keys)
        self.ids = [miner.id for miner in self.miners]
        self.me = me
        self.now = 0
        self.config = make_config(self.miners)
        self.records = list(records)
        self.outputs: list[Output] = []
        self.replica: Any = Replica(
            signer=None if remote else self.keys[me],
            miner_id=self.ids[me],
            durable=recover(records) if durable is None else durable,
        )
        self.start()
        if heard:
            self.show(*(by for by in range(n) if by != me))

    def start(self, config=None):
        return self.step(StartHeight(config=self.config if config is None else config))

    def step(self, event):
        output = self.replica.step(event, self.now)
        self.records += output.writes
        self.outputs.append(output)
        return output

    def receive(self, *messages, wall_ms=WALL_START_MS):
        return [self.step(Received(message=message, wall_ms=wall_ms)) for message in messages][-1]

    def show(self, *others, height=1):
        """Let others say that they have shown what they hold of this miner's messages."""
        for by in others:
            self.step(MemoryShown(miner=self.ids[by], height=height))

    def work(self):
        return self.step(WorkPending())

    def wait(self, ms):
        self.now += ms * NS_PER_MS
        return self.step(Tick())

    def time_out(self):
        """Let the running round end."""
        deadline = self.replica.snapshot().deadline_ns
        assert deadline is not None, "no timer runs"
        round = self.snapshot.round
        while self.snapshot.round == round:
            self.now = self.replica.snapshot().deadline_ns
            self.step(Tick())
        return self.outputs[-1]

    def built(self, proposal, round=0):
        return self.step(BlockBuilt(height=1, round=round, proposal=proposal))

    def checked(self, proposal, valid=True):
        return self.step(ProposalChecked(height=1, digest=proposal.digest, valid=valid))

    @property
    def snapshot(self):
        return self.replica.snapshot()

    def proposer(self, round=0):
        return (1 + round) % len(self.ids)

    # --- messages of the others ---

    def proposal(self, round=0, content=b"", **changes):
        changes.setdefault("time_ms", WALL_START_MS)
        return make_proposal(
            self.config,
            proposer=self.ids[self.proposer(round)],
            round=round,
            content=content,
            **changes,
        )

    def pre_prepare(self, proposal, round=0, justification=None, by=None):
        by = self.proposer(round) if by is None else by
        return sign(
            self.keys[by],
            PrePrepare(
                sender=self.ids[by],
                height=1,
                round=round,
                proposal=proposal,
                justification=justification,
            ),
        )

    def prepare(self, by, proposal, round=0, height=1):
        return self._vote(Prepare, by, proposal, round, height)

    def commit(self, by, proposal, round=0, height=1):
        return self._vote(Commit, by, proposal, round, height)

    def _vote(self, make, by, proposal, round, height):
        vote = make(sender=self.ids[by], height=height, round=round, digest=proposal.digest)
        return sign(self.keys[by], vote)

    def certificate(self, proposal, round=0, by=(0, 1, 2), type=VoteType.PREPARE):
        make = self.prepare if type is VoteType.PREPARE else self.commit
        votes = tuple(
            SignedVote(index=index, signature=make(index, proposal, round).signature)
            for index in by
        )
        return VoteCertificate(height=1, round=round, digest=proposal.digest, votes=votes)

    def round_change(self, by, round=1, prepared=None, height=1):
        """`prepared` is a certificate of PREPAREs."""
        return sign(
            self.keys[by],
            RoundChange(
                sender=self.ids[by],
                height=height,
                round=round,
                prepared_round=None if prepared is None else prepared.round,
                prepared_digest=None if prepared is None else prepared.digest,
                certificate=prepared,
            ),
        )

    def justification(self, *round_changes, certificate=None):
        ordered = sorted(round_changes, key=lambda message: message.sender)
        return Justification(
            round_changes=tuple(message.without_certificate() for message in ordered),
            certificate=certificate,
        )


def sent(output, kind):
    """Return the messages of one class that a step sends."""
    return [send.message for send in output.sends if isinstance(send.message, kind)]


def asked(output, kind):
    """Return the requests of one class that a step makes."""
    return [request for request in output.requests if isinstance(request, kind)]


def written(output, kind):
    """Return the records of one class that a step writes."""
    return [record for record in output.writes if isinstance(record, kind)]


__all__ = ["FRESH_LOG", "TIMING", "Bench", "asked", "sent", "written"]
