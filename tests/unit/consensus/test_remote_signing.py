"""A replica whose key is in another process asks for signatures, and waits while it is lost."""

from dataclasses import replace
from typing import Any

from chain.certificate import VOTE_TAG
from consensus.durable import Accepted, LostMemory, Prepared, Signed
from consensus.events import MessageSigned, SignerSeen, SigningRefused
from consensus.messages import Commit, Prepare, RoundChange
from consensus.output import SignMessage, TellFloor
from tests.interaction.cluster import GENESIS
from tests.unit.consensus.bench import Bench, asked, sent, written
from tests.unit.consensus.plain import HeightSeen


def meet(bench: Bench, *, remembers: bool = True) -> Any:
    return bench.step(SignerSeen(keys=(bench.keys[bench.me].public,), remembers=remembers))


def lose(bench: Bench) -> Any:
    return bench.step(SignerSeen(keys=()))


def requests(output: Any) -> list[Any]:
    return [request.message for request in asked(output, SignMessage)]


def signed(bench: Bench, message: Any) -> Any:
    """Let the signer's answer come."""
    signature = bench.keys[bench.me].sign(VOTE_TAG, message.statement(GENESIS))
    return bench.step(MessageSigned(message=replace(message, signature=signature)))


def met_bench() -> Bench:
    bench = Bench(remote=True)
    meet(bench)
    return bench


def accept(bench: Bench) -> tuple[Any, Any]:
    """Have a proposal of the others found valid; return it, and the step's output."""
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    return proposal, bench.checked(proposal)


def test_a_vote_is_sent_once_its_signature_is_back_and_its_reasons_are_written_before():
    bench = met_bench()

    _, output = accept(bench)
    (request,) = requests(output)
    assert isinstance(request, Prepare)
    assert written(output, Accepted)
    assert not written(output, Signed)
    assert not sent(output, Prepare)

    output = signed(bench, request)
    assert written(output, Signed)
    assert sent(output, Prepare)


def test_the_own_vote_counts_only_with_its_signature():
    bench = met_bench()
    proposal, output = accept(bench)
    (prepare,) = requests(output)
    output = bench.receive(bench.prepare(1, proposal), bench.prepare(2, proposal))
    assert requests(output) == []

    output = signed(bench, prepare)

    (commit,) = requests(output)
    assert isinstance(commit, Commit)
    assert written(output, Prepared)


def test_nothing_is_asked_twice_while_the_answer_is_awaited():
    bench = met_bench()
    proposal, output = accept(bench)
    assert len(requests(output)) == 1
    assert requests(bench.work()) == []
    assert requests(bench.checked(proposal)) == []


def test_a_refused_place_is_given_up_and_the_miner_goes_on():
    bench = met_bench()
    _, output = accept(bench)
    (prepare,) = requests(output)

    assert requests(bench.step(SigningRefused(message=prepare))) == []
    assert not sent(signed(bench, prepare), Prepare), "an answer to nothing"

    bench.time_out()
    assert any(isinstance(m, RoundChange) for o in bench.outputs for m in requests(o))


def test_without_its_signer_a_miner_waits_and_then_asks_again():
    bench = met_bench()
    _, output = accept(bench)
    (prepare,) = requests(output)

    assert requests(lose(bench)) == []
    assert bench.snapshot.signing == "signer-unreachable"
    bench.wait(60_000)
    assert bench.snapshot.round == 0, "it leaves no round by itself"

    assert requests(meet(bench)) == [prepare]
    assert bench.snapshot.signing == "yes"


def test_a_miner_that_entered_a_round_without_its_signer_says_so_afterwards():
    bench = met_bench()
    lose(bench)
    bench.receive(bench.round_change(1), bench.round_change(2))
    assert bench.snapshot.round == 1

    (message,) = requests(meet(bench))

    assert isinstance(message, RoundChange)
    assert message.round == 1


def test_a_signer_without_the_key_of_the_set_is_told_apart_from_a_lost_one():
    bench = Bench(remote=True)
    assert bench.snapshot.signing == "signer-unreachable"
    bench.step(SignerSeen(keys=(bench.keys[1].public,)))
    assert bench.snapshot.signing == "key-replaced"


def test_a_signer_without_memory_makes_the_miner_silent_for_two_heights():
    bench = Bench(remote=True)
    assert written(meet(bench, remembers=False), LostMemory)

    outputs = [bench.step(HeightSeen(miner=bench.ids[by], height=1)) for by in (1, 2, 3)]

    assert asked(outputs[2], TellFloor) == [TellFloor(height=3)]  # type: ignore[arg-type]  # plain
    assert bench.snapshot.signing == "floor"


def test_heights_told_before_a_signer_without_memory_came_set_no_floor():
    """With another node, further ahead than this one has heard, it may have signed since."""
    bench = Bench(remote=True)
    for by in (1, 2, 3):
        bench.step(HeightSeen(miner=bench.ids[by], height=1))

    output = meet(bench, remembers=False)

    assert not asked(output, TellFloor)
    assert bench.snapshot.signing != "floor"


def test_an_answer_that_comes_after_memory_was_lost_is_not_sent():
    bench = met_bench()
    _, output = accept(bench)
    (prepare,) = requests(output)
    unknown = bench.commit(bench.me, bench.proposal(content=b"other"))
    assert written(bench.receive(unknown), LostMemory)

    output = signed(bench, prepare)

    assert not sent(output, Prepare)
    assert not written(output, Signed)
