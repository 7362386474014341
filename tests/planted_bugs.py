"""Bugs on purpose: what the worlds have to find, each as a patch of the code under test.

A patch is made with a `pytest.MonkeyPatch`, so it ends with the test or the context that asked for
it. Some are looked for in worlds of consensus alone (`tests.interaction.worlds`), all that are
listed in `tests.simulation.planted` in whole nodes.
"""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from chain import admission, transition
from chain.certificate import VOTE_TAG, SignedVote, VoteCertificate
from chain.errors import InvalidBlock, Rejection
from chain.federated import progress
from chain.kinds import evidence, participation
from chain.lookback import Lookback
from chain.miners import MinerSet
from chain.miners import quorum as true_quorum
from chain.state import miner_sets_of
from chain.types import Round
from consensus import durable, ordering, reception, round_change
from consensus.log import MessageLog
from consensus.memory import Memory
from consensus.messages import Commit, Phase, Prepare, PrePrepare
from consensus.quorum import VoteSet
from consensus.reception import Reception
from consensus.replica import Replica
from consensus.rules import Rules
from consensus.timers import NS_PER_MS, Timing
from ml_validator.federated import group_mean, on_chain
from node import block_maker, fetched_check, height_config
from node.evidence_service import EvidenceService
from node.ports import WriteBatch
from node.replica_driver import ReplicaDriver
from node.round_work import RoundWork
from node.storage import schema
from node.storage.chain_store import ChainStore
from node.verification import Verifier

Patch = Callable[[Any], None]


# Counting and justifying


def quorum_off_by_one(patch):
    """Count one vote less than a quorum."""
    patch.setattr(MinerSet, "quorum", property(lambda miners: true_quorum(len(miners)) - 1))


def votes_counted_instead_of_voters(patch):
    """Count a vote that comes twice as two."""
    take, votes, votes_for = Reception._on_second, MessageLog.votes, MessageLog.votes_for

    def counted(found, log):
        again = vars(log).get("again", Counter())
        extra = again[found.round, found.digest]
        return _Counted(found.height, found.round, found.digest, found.votes, extra)

    def on_second(reception, known, message, state, draft):
        if isinstance(message, Prepare) and known == message:
            again = vars(state.log).setdefault("again", Counter())
            again[message.round, message.digest] += 1
        take(reception, known, message, state, draft)

    patch.setattr(Reception, "_on_second", on_second)
    patch.setattr(MessageLog, "votes", lambda *a: [counted(found, a[0]) for found in votes(*a)])
    patch.setattr(MessageLog, "votes_for", lambda *a: counted(votes_for(*a), a[0]))


class _Counted(VoteSet):
    __slots__ = ("extra",)

    def __init__(self, height, round, digest, votes, extra):
        super().__init__(height, round, digest, votes)
        self.extra = extra

    def certificate(self, miners):
        signed = tuple(
            SignedVote(index=index, signature=self.votes[miner.id])
            for index, miner in enumerate(miners)
            if miner.id in self.votes
        )
        if len(signed) + self.extra < miners.quorum:
            return None
        return VoteCertificate(
            height=self.height, round=self.round, digest=self.digest, votes=signed
        )


def justification_unchecked(patch):
    """Believe every proposer of a later round."""
    patch.setattr(round_change, "justification_shape_fault", lambda *arguments: None)
    patch.setattr(round_change, "justification_fault", lambda *arguments: None)


def highest_certificate_ignored(patch):
    """Propose again what was prepared in the lowest round, and accept that."""
    justify = round_change.justify

    def lowest(round_changes, miners):
        plain = [replace(m, prepared_round=None, certificate=None) for m in round_changes]
        return justify(plain, miners)

    patch.setattr(round_change, "justify", lowest)
    patch.setattr(round_change, "justification_shape_fault", lambda *arguments: None)
    patch.setattr(round_change, "justification_fault", lambda *arguments: None)


def evidence_unproven(patch):
    """Convict without looking at the signatures."""
    patch.setattr(evidence, "verify", lambda *arguments: True)


def evidence_kept_back(patch):
    """Find a contradiction and report it to nobody."""

    async def keep(*arguments):
        pass

    patch.setattr(EvidenceService, "_send", keep)


# Memory


def certificate_lost_at_restart(patch):
    """Forget, with a crash, that a block was prepared."""
    apply = durable.DurableState.apply

    def forgetful(state, record):
        return state if isinstance(record, durable.Prepared) else apply(state, record)

    patch.setattr(durable.DurableState, "apply", forgetful)


def votes_lost_at_restart(patch):
    """Forget, with a crash, what was signed."""
    apply = durable.DurableState.apply

    def forgetful(records):
        state = durable.DurableState()
        for record in records:
            if isinstance(record, durable.Floor):
                state = apply(state, record)
        return state

    patch.setattr("tests.interaction.cluster.recover", forgetful)
    patch.setattr("node.consensus_log.recover", forgetful)


def prepared_not_reported(patch):
    """Leave a round without saying what was prepared in it."""
    leave = Rules.leave_for

    def silent(rules, round, cause, state, draft):
        prepared, state.prepared = state.prepared, None
        leave(rules, round, cause, state, draft)
        state.prepared = prepared

    patch.setattr(Rules, "leave_for", silent)


def late_commit(patch):
    """COMMIT in a round that was left, when its PREPAREs come in at last."""
    leave, vote, is_useless = Rules.leave_for, Rules._try_vote_commit, reception._is_useless

    def remember(rules, round, cause, state, draft):
        state.left = None if state.accepted is None else (state.round, state.accepted)
        leave(rules, round, cause, state, draft)

    def late(rules, state, draft):
        if vote(rules, state, draft):
            return True
        left = vars(state).get("left")
        if left is None or (state.prepared is not None and state.prepared.round >= left[0]):
            return False
        votes = state.log.votes_for(Phase.PREPARE, *left)
        if votes.certificate(state.config.miners) is None:
            return False
        state.left = None
        message = Commit(
            sender=rules._me, height=state.config.height, round=left[0], digest=left[1]
        )
        statement = message.statement(state.config.genesis_hash)
        signature = next(iter(rules._signer._keys.values())).sign(VOTE_TAG, statement)
        draft.send(replace(message, signature=signature))
        return True

    patch.setattr(Rules, "leave_for", remember)
    patch.setattr(Rules, "_try_vote_commit", late)
    patch.setattr(
        reception,
        "_is_useless",
        lambda message, state: not isinstance(message, Prepare) and is_useless(message, state),
    )


def wiped_miner_signs_at_once(patch):
    """Sign with an empty log as if nothing had been signed before."""

    def trusting(memory, config, draft):
        if memory._signer.durable.floor is None and memory._me in config.miners:
            memory._signer.write(durable.Floor(height=config.height), draft)
            # Else it would wait until others have shown it what it has forgotten.
            memory._signer.is_latest = True

    patch.setattr(Memory, "_set_floor", trusting)


# Time and rounds


def timer_uncapped(patch):
    """Double the time of every further round."""
    patch.setattr(
        Timing,
        "round_timeout_ns",
        lambda timing, round: NS_PER_MS * (timing.round_timeout_ms << min(round, 40)),
    )


def no_resend(patch):
    """Send a ROUND-CHANGE once."""

    def silent(replica, state, draft):
        state.resend_ns = None

    patch.setattr(Replica, "_resend", silent)


def lock_as_a_veto(patch):
    """Refuse every other block once prepared, as IBFT 1 did."""
    vote = Rules._try_vote_prepare

    def stubborn(rules, state, draft):
        if state.prepared is not None and state.accepted not in (None, state.prepared.digest):
            return False
        return vote(rules, state, draft)

    patch.setattr(Rules, "_try_vote_prepare", stubborn)


def commits_added_up_over_rounds(patch):
    """Count as one quorum the COMMITs for whatever block, as if a height had one block only."""
    votes = MessageLog.votes

    def added_up(log, phase):
        found = votes(log, phase)
        if phase is Phase.COMMIT and found:
            for other in found[1:]:
                for miner, signature in other.votes.items():
                    found[0].add(miner, signature)
        return found

    patch.setattr(MessageLog, "votes", added_up)


def any_round_changes_justify(patch):
    """Count ROUND-CHANGEs for other rounds as well."""
    of_round = MessageLog.round_changes

    def of_any(log, round):
        newest = {m.sender: m for r in range(1, round + 1) for m in of_round(log, Round(r))}
        return [newest[sender] for sender in sorted(newest)]

    patch.setattr(MessageLog, "round_changes", of_any)
    patch.setattr(round_change, "justification_shape_fault", lambda *arguments: None)


def second_vote_in_a_round(patch):
    """Follow the proposal that came last, and vote again."""
    accept = Reception._on_second

    def fickle(reception, known, message, state, draft):
        accept(reception, known, message, state, draft)
        if isinstance(message, PrePrepare) and message.round == state.round:
            state.accepted = message.digest
            state.add_candidate(message.proposal)
            for phase in (Phase.PREPARE, Phase.COMMIT):
                state.log._slots.pop((reception._me, phase), None)
            signer = reception._memory._signer
            signer.durable = replace(signer.durable, messages=signer.durable.messages[:0])

    patch.setattr(Reception, "_on_second", fickle)


def no_jump(patch):
    """Stay in one's round, however many have reached a later one."""
    patch.setattr(Rules, "_try_jump", lambda rules, state, draft: False)


def block_time_not_judged(patch):
    """Vote for a block of any time."""
    patch.setattr(ordering, "time_fault", lambda *arguments: None)


# The disk


def sends_before_it_writes(patch):
    """Send what was signed, then write it down."""
    obey = ReplicaDriver._obey

    async def hasty(driver, output, group):
        for send in output.sends:
            driver._send(send)
        await obey(driver, replace(output, sends=()), group)

    patch.setattr(ReplicaDriver, "_obey", hasty)


def attests_without_storing(patch):
    """Vote for a block that is not on the disk."""

    async def forget(store, block):
        pass

    patch.setattr(ChainStore, "store_proposed", forget)


def commit_not_synced(patch):
    """Commit a block without waiting for the disk."""

    def lazy(store, batch):
        store.write(batch, sync=False)

    _write_with(patch, lazy)


def commit_in_two_batches(patch):
    """Write a block first, and then what follows from it."""
    block = (schema.HEADER, schema.BODY, schema.CERTIFICATE, schema.TIP_KEY[:1])

    def split(store, batch):
        first, second = WriteBatch(), WriteBatch()
        for key, value in batch.writes.items():
            (first if key[:1] in block else second).writes[key] = value
        for part in (first, second):
            store.write(part)

    _write_with(patch, split)


def _write_with(patch, write):
    """Let a `ChainStore` write its commits by ``write(store, batch)``."""
    commit = ChainStore._write

    class Store:
        def __init__(self, inner):
            self._inner = inner

        def write(self, batch):
            write(self._inner, batch)

        def scan(self, **bounds):
            return self._inner.scan(**bounds)

        def get(self, key):
            return self._inner.get(key)

    def other(chain, *decided):
        inner, chain._store = chain._store, Store(chain._store)
        try:
            commit(chain, *decided)
        finally:
            chain._store = inner

    patch.setattr(ChainStore, "_write", other)


# Checking blocks and transactions


def signatures_believed(patch):
    """Take transactions for signed."""

    async def believe(verifier, pairs):
        return [True] * len(pairs)

    patch.setattr(Verifier, "check", lambda *arguments: True)
    patch.setattr(Verifier, "verify_many", believe)


def duplicates_of_the_look_back(patch):
    """Look for duplicates in the open block alone."""
    patch.setattr(Lookback, "has_id", lambda *arguments: False)


def rate_charged_before_the_signature(patch):
    """Charge the rate where it is checked, as the paper does."""
    check, judge = admission.check_rate_limits, admission.algorithm_1

    def charge(limits, block):
        check(limits, block)
        for subject, _ in limits:
            block.recent.charge(subject)

    def charging(transaction, block, verify):
        return replace(judge(transaction, block, verify), subjects=())

    patch.setattr(admission, "check_rate_limits", charge)
    patch.setattr(transition, "algorithm_1", charging)


def roots_not_compared(patch):
    """Vote for a block whatever it says that its execution gives."""
    checking = transition.checking

    def lenient(tip, block, verify) -> Generator[None, None, Any]:
        try:
            return (yield from checking(tip, block, verify))
        except InvalidBlock as error:
            if error.code != "wrong_root":
                raise
        header = block.header
        execution = transition.BlockExecution(
            tip,
            proposer=header.proposer,
            proposal_round=header.proposal_round,
            time_ms=header.time_ms,
            verify=verify,
        )
        for transaction in block.transactions:
            execution.apply(transaction)
        return replace(execution.finish(), header=header)

    patch.setattr(block_maker, "checking", lenient)


def certificate_believed_in_sync(patch):
    """Commit what a peer says to be committed."""
    patch.setattr(fetched_check, "verify_header", lambda *arguments: None)


def set_changes_early_after_a_restart(patch):
    """Begin, after a restart, with the miners of the height after next."""
    start, sets_of = ReplicaDriver._start_height, miner_sets_of
    is_first = False

    def early_sets(state):
        nonlocal is_first
        current, following = sets_of(state)
        if is_first:
            is_first = False
            return following, following
        return current, following

    async def early(driver, group):
        nonlocal is_first
        is_first = "begun" not in vars(driver)
        driver.begun = True
        await start(driver, group)

    patch.setattr(height_config, "miner_sets_of", early_sets)
    patch.setattr(ReplicaDriver, "_start_height", early)


# Federated rounds


def either_secret_revealed(patch):
    """Take a share of whichever secret of a member, so that both may become known."""
    check = participation._check_share

    def lenient(round_id, owner, *arguments):
        try:
            check(round_id, owner, *arguments)
        except Rejection:
            other = "withheld" if owner.status == "included" else "included"
            check(round_id, replace(owner, status=other), *arguments)

    patch.setattr(participation, "_check_share", lenient)


def one_attestation_is_enough(patch):
    """Include an update because one miner says that it is here."""
    patch.setattr(
        progress,
        "_is_held",
        lambda found, position, block: any(entry.holds(position) for entry in found.attestations),
    )


def attests_unseen_updates(patch):
    """Say of an update that it is here because it was committed to."""
    bring = RoundWork._bring

    async def believe(work, member, found, patience_s):
        return found.phase == "attest" or await bring(work, member, found, patience_s)

    patch.setattr(RoundWork, "_bring", believe)


def clip_not_checked(patch):
    """Attest an update that is not masked whatever its length."""

    async def is_sound(*arguments):
        return True

    patch.setattr(RoundWork, "_is_sound", is_sound)


def withheld_updates_awaited(patch):
    """Wait for updates that nobody brings, whatever the deadline."""
    attest = progress._STEPS["attest"]

    def patient(round_id, found, block):
        is_all_held = all(
            progress._is_held(found, position, block)
            for position, member in enumerate(found.members)
            if member.status == "committed"
        )
        return attest(round_id, found, block) if is_all_held else None

    patch.setitem(progress._STEPS, "attest", patient)


def weights_left_out(patch):
    """Divide the sum of a group by how many they are, and not by what they weigh."""
    patch.setattr(
        on_chain,
        "group_mean",
        lambda given, *, weights, rules: group_mean(
            given, weights=dict.fromkeys(weights, 1), rules=rules
        ),
    )
