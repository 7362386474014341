"""chain.transition: what a block does, and every way in which one is refused."""

from dataclasses import replace

import pytest

from chain.blocks import Block
from chain.errors import InvalidBlock, Rejection
from chain.kinds import KINDS
from chain.kinds.device_registry import Suspend
from chain.kinds.policy import PolicySet
from chain.lookback import Lookback
from chain.parameters import Parameters
from chain.records.policies import POLICY_TABLE, PolicyRecord
from chain.state import State, parameters_of
from chain.transactions import Transaction
from chain.transition import (
    STEP_SIZE,
    STEP_TRANSACTIONS,
    check_block,
    checking,
    execute,
    steps,
    summarise,
)
from chain.types import Height, Round, TimestampMs
from tests.builders import (
    Chain,
    digest_of,
    flow,
    forged,
    make_genesis,
    make_model,
    with_parameters,
)

HEARTBEAT_MS = Parameters().heartbeat_ms


@pytest.fixture
def chain():
    return Chain(make_genesis(model=make_model()))


def check(chain, block):
    return check_block(chain.tip, block, Transaction.is_signed_by)


def refusal(chain, block):
    before = dict(chain.source.entries), chain.state.root
    with pytest.raises(InvalidBlock) as caught:
        check(chain, block)
    assert (dict(chain.source.entries), chain.state.root) == before
    return caught.value


def test_a_block_is_checked_without_touching_the_chain(chain):
    block = chain.block(chain.registration("device")[1])
    root = chain.state.root

    first, second = check(chain, block), check(chain, block)

    assert first.header == second.header == block.header
    assert first.delta == second.delta
    assert chain.state.root == root


def test_what_is_committed_is_the_state_of_the_header(chain):
    chain.register()

    assert chain.state.root == chain.tip.header.state_root
    assert State(chain.source).root == chain.tip.header.state_root


@pytest.mark.parametrize(
    "fields",
    [
        {"genesis_hash": digest_of("x")},
        {"height": Height(1)},
        {"height": Height(3)},
        {"time_ms": TimestampMs(1)},
        {"parent_hash": digest_of("x")},
        {"transaction_root": digest_of("x")},
        {"receipt_root": digest_of("x")},
        {"state_root": digest_of("x")},
        {"miner_set_hash": digest_of("x")},
        {"next_miner_set_hash": digest_of("x")},
        {"proposer": digest_of("x")},
        {"proposal_round": Round(1)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_every_field_of_a_header_is_checked(chain, fields):
    device = chain.register()
    block = chain.block(chain.by_device(device))

    refusal(chain, replace(block, header=replace(block.header, **fields)))


@pytest.mark.attack("C2")
def test_a_block_of_the_parents_time_is_refused(chain):
    device = chain.register()
    report = chain.by_device(device)
    parent = chain.tip.header.time_ms
    for time_ms in (parent, parent - 1):
        refusal(chain, chain.block(report, time_ms=time_ms))
    check(chain, chain.block(report, time_ms=parent + 1))


def test_only_the_proposer_of_the_round_proposes(chain):
    device = chain.register()
    block = chain.block(chain.by_device(device), round=1)
    for round, member in [(0, chain.proposer(1)), (1, chain.proposer(0)), (2, chain.proposer(1))]:
        header = replace(block.header, proposal_round=Round(round), proposer=member)
        refusal(chain, replace(block, header=header))


# --- empty blocks ---------------------------------------------------------------------------------


def test_an_empty_block_waits_for_the_heartbeat(chain):
    parent = chain.tip.header.time_ms

    assert "empty" in str(refusal(chain, chain.block(time_ms=parent + HEARTBEAT_MS - 1)))
    check(chain, chain.block(time_ms=parent + HEARTBEAT_MS))


def test_an_empty_block_ends_a_failed_round(chain):
    check(chain, chain.block(round=1))


# --- bounds ---------------------------------------------------------------------------------------


def test_a_block_holds_so_many_transactions_and_no_more():
    chain = Chain(make_genesis(parameters=with_parameters(block_transactions_max=2)))
    device = chain.register()
    reports = [chain.by_device(device) for _ in range(3)]

    check(chain, chain.block(*reports[:2]))
    assert "too many" in str(refusal(chain, chain.block(*reports)))


@pytest.mark.attack("D12")
def test_a_block_holds_so_many_bytes_and_no_more():
    parameters = with_parameters(block_bytes_max=64 * 1024)
    chain = Chain(make_genesis(parameters=parameters))
    device = chain.register()
    size = len(chain.by_device(device).wire)
    fitting = 64 * 1024 // size
    reports = [chain.by_device(device) for _ in range(fitting + 1)]

    check(chain, chain.block(*reports[:-1]))
    assert "bytes" in str(refusal(chain, chain.block(*reports)))


# --- the order of lanes ---------------------------------------------------------------------------


def test_lanes_keep_their_order_within_a_block(chain):
    device = chain.register()
    report = chain.by_device(device, flow())
    chain.commit(chain.by_device(device, flow()))
    judged = chain.tip.header.height
    verdict = chain.verdict(0, judged, [0])
    change = chain.by_registrar("policy.set", PolicySet(policy=PolicyRecord()))

    assert chain.rejection(change, report).code == "wrong_order"
    assert chain.rejection(verdict, report).code == "wrong_order"
    assert chain.rejection(change, verdict).code == "wrong_order"
    chain.commit(change, verdict, report)


def test_a_block_with_its_lanes_exchanged_is_refused(chain):
    device = chain.register()
    change, report = chain.update(device, Suspend()), chain.by_device(device)
    block = Block(
        header=chain.block(change).header,
        transactions=(report, change),
    )

    assert refusal(chain, block).code == "wrong_order"


# --- refusals within a block ----------------------------------------------------------------------


def test_a_refused_transaction_names_its_place_and_code(chain):
    device = chain.register()
    good, bad = chain.by_device(device), forged(chain.by_device(device))
    header = chain.block(good).header

    error = refusal(chain, Block(header=header, transactions=(good, bad)))

    assert (error.code, error.index) == ("bad_signature", 1)


def test_roots_have_a_code_of_their_own(chain):
    device = chain.register()
    block = chain.block(chain.by_device(device))
    header = replace(block.header, state_root=digest_of("x"))

    assert refusal(chain, replace(block, header=header)).code == "wrong_root"


def test_leaving_out_or_doubling_a_transaction_is_noticed(chain):
    device = chain.register()
    block = chain.block(chain.by_device(device), chain.by_device(device))
    first, second = block.transactions
    for transactions in ((first,), (second, first), (first, second, second)):
        refusal(chain, replace(block, transactions=transactions))


def test_execution_goes_on_behind_a_refused_transaction(chain):
    device = chain.register()
    execution = chain.execution()
    reports = [chain.by_device(device) for _ in range(2)]
    execution.apply(reports[0])
    with pytest.raises(Rejection):
        execution.apply(forged(chain.by_device(device)))
    execution.apply(reports[1])
    header = execution.finish().header

    check(chain, Block(header=header, transactions=tuple(reports)))


def test_a_check_pauses_so_that_others_may_run(chain):
    device = chain.register()
    block = chain.block(*[chain.by_device(device) for _ in range(2 * STEP_TRANSACTIONS)])
    check = checking(chain.tip, block, Transaction.is_signed_by)

    assert len(list(check)) == 2


def test_a_step_ends_at_a_number_of_transactions_or_of_bytes():
    sizes = [1] * (STEP_TRANSACTIONS + 1) + [STEP_SIZE, 1, STEP_SIZE - 1, 1]

    cut = list(steps(sizes, size_of=lambda size: size))

    assert cut == [[1] * STEP_TRANSACTIONS, [1, STEP_SIZE], [1, STEP_SIZE - 1], [1]]


def test_what_a_kind_wrote_before_it_refused_is_dropped(chain, monkeypatch):
    def write_and_refuse(body, transaction, block):
        block.state.put(POLICY_TABLE, body.policy, transaction.payload.sender)
        raise Rejection("refused", "after all")

    careless = replace(KINDS["policy.set"], apply=write_and_refuse)
    monkeypatch.setitem(KINDS, "policy.set", careless)
    transaction = chain.by_registrar("policy.set", PolicySet(policy=PolicyRecord()))

    assert chain.rejection(transaction).code == "refused"


# --- receipts and summaries -----------------------------------------------------------------------


def test_receipts_stand_in_the_order_of_the_transactions(chain):
    device = chain.register()
    reports = [chain.by_device(device) for _ in range(3)]

    execution = chain.commit(*reports)

    assert [receipt.index for receipt in execution.receipts] == [0, 1, 2]
    assert [receipt.transaction_id for receipt in execution.receipts] == [tx.id for tx in reports]


def test_a_block_is_summarised_from_a_later_state_as_it_was_when_it_was_executed(chain):
    gateway = chain.register("gateway", roles=("gateway",))
    device = chain.register("device", gateway=gateway)
    execution = chain.commit(
        chain.by_device(gateway), chain.by_device(device, flow()), chain.by_device(device)
    )
    block = chain.blocks[-1]
    chain.commit(chain.update(device, Suspend()))

    assert summarise(block, chain.state) == execution.summary
    assert execution.summary.flows == (device.id,)
    assert execution.summary.sent[gateway.id] == 3


def test_the_look_back_is_rebuilt_from_blocks(chain):
    device = chain.register(limits="9:600")
    for _ in range(3):
        chain.commit(chain.by_device(device, flow()), chain.by_device(device))
    rebuilt = Lookback()
    for block in chain.blocks:
        rebuilt.append(summarise(block, chain.state), parameters_of(chain.state))

    recent = chain.tip.recent
    assert rebuilt._ids == recent._ids
    assert rebuilt._flows == recent._flows
    assert [rebuilt.sent_since(device.id, block.header.time_ms) for block in chain.blocks] == [
        recent.sent_since(device.id, block.header.time_ms) for block in chain.blocks
    ]


def test_how_a_device_stands_is_found_anew_after_a_change_of_state():
    chain = Chain()
    device = chain.register()
    block = chain.context()
    execute(chain.by_device(device), block, Transaction.is_signed_by)
    execute(chain.update(device, Suspend()), block, Transaction.is_signed_by)

    with pytest.raises(Rejection) as refused:
        execute(chain.by_device(device), block, Transaction.is_signed_by)

    assert refused.value.code == "device_not_active"
