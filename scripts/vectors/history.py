"""Vectors of a chain, from its genesis document to its last state."""

from collections.abc import Iterable, Sequence
from typing import Any

from chain.blocks import (
    BLOCK_RECEIPT,
    BLOCK_VERSION,
    HEADER,
    RECEIPT,
    encode_block,
    render_header,
)
from chain.certificate import CERTIFICATE
from chain.genesis import genesis_header, render_genesis
from chain.kinds.appeal import DeviceAppeal
from chain.kinds.parameter_change import ParameterChange
from chain.kinds.policy import PolicySet
from chain.records.policies import PolicyRecord
from chain.transactions import Transaction
from tests.builders import (
    MODEL,
    Chain,
    flow,
    make_genesis,
    make_model,
    with_parameters,
)
from tests.federation import Federation, participants
from tests.tables import TABLES


def whole_chain() -> dict[str, Any]:
    """Return a genesis document and the blocks on it, to be replayed up to the last state."""
    parameters = with_parameters(proposal_lifetime_ms=60_000)
    chain = Chain(make_genesis(model=make_model(), parameters=parameters))
    first = genesis_header(chain.genesis, chain.state.root)
    blocks = []
    for transactions in _story(chain):
        miners = chain.miners
        execution = chain.commit(*transactions)
        header = execution.header
        certificate = chain.certificate(header, miners)
        blocks.append(
            {
                "header": render_header(header),
                "header_bytes": HEADER.encode(header).hex(),
                "block": encode_block(chain.blocks[-1]).hex(),
                "receipts": [
                    {"json": RECEIPT.render(receipt), "bytes": RECEIPT.encode(receipt).hex()}
                    for receipt in execution.receipts
                ],
                "block_receipt": {
                    "json": BLOCK_RECEIPT.render(execution.block_receipt),
                    "bytes": BLOCK_RECEIPT.encode(execution.block_receipt).hex(),
                },
                "certificate": CERTIFICATE.render(certificate),
                "certificate_bytes": CERTIFICATE.encode(certificate).hex(),
            }
        )
    return {
        "version": BLOCK_VERSION,
        "genesis": render_genesis(chain.genesis),
        "genesis_hash": chain.genesis.hash.hex(),
        "genesis_header": render_header(first),
        "blocks": blocks,
        "state": [
            {
                "table": table.prefix.decode(),
                "key": key.hex(),
                "record": table.record.render(record),
                "value": table.encode(record).hex(),
            }
            for table in TABLES
            for key, record in chain.state.scan(table)
        ],
        "state_root": chain.state.root.hex(),
    }


def _story(chain: Chain) -> Iterable[Sequence[Transaction]]:
    sensor, registration = chain.registration("sensor", limits="10:1,300:60")
    meter, other = chain.registration("meter", algorithm="p256")
    policy = PolicyRecord(action="quarantine", anomalous_min=1, window=1, duration_ms=60_000)
    yield registration, other, chain.by_registrar("policy.set", PolicySet(policy=policy))
    yield chain.by_device(sensor, flow()), chain.by_device(meter), chain.by_device(meter, flow())
    proposal = chain.by_miner(
        0, "param.change", ParameterChange(name="heartbeat_ms", value="90000")
    )
    votes = [chain.vote(number, proposal) for number in (1, 2)]
    verdicts = [chain.verdict(number, 2, [900_000, 100_000]) for number in (0, 1, 2)]
    # The first two wait for a quorum in the state of their block.
    yield proposal, *votes, *verdicts[:2]
    crime = chain.equivocation(3, type="round-change", round=1, says=((None, None), (0, MODEL)))
    evidence = chain.by_miner(2, "evidence", crime)
    yield evidence, chain.by_miner(1, "miner.propose", chain.addition()), verdicts[2]
    yield (chain.transaction("device.appeal", DeviceAppeal(text="why?"), sensor.key, sensor.id),)
    # By the time of this heartbeat the proposal has expired.
    yield ()
    yield from _learning(chain)


def _learning(chain: Chain) -> Iterable[Sequence[Transaction]]:
    """Yield a federated round up to its first revealed shares, and one that is aborted."""
    devices, registrations = participants(chain, 3)
    yield registrations
    round_ = Federation(chain, devices=devices, group_size=3)
    opening, other = round_.opening(), round_.opening()
    yield opening, other
    round_.id = other.id
    abort = round_.abort()
    round_.id = opening.id
    yield abort, *[round_.join(device) for device in round_.devices]
    # At the end of this heartbeat the group is drawn.
    yield ()
    yield [round_.share(device) for device in round_.devices]
    yield [round_.commit(device) for device in round_.devices]
    yield [round_.attest(miner) for miner in (0, 1)]
    yield (round_.reveal(round_.devices[0]),)
