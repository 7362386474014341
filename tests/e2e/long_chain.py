"""A long chain in a node's database, made without its miners: real certificates, no agreement.

Blocks are executed and stored as a node does it, and certified with the miners' real keys. The
signatures of readings are left out: nobody who joins by snapshot looks at them.
"""

from contextlib import closing
from typing import Final

from chain.blocks import Block
from chain.crypto import SigningKey
from chain.eligibility import eligible_miners, proposer_of
from chain.genesis import Genesis
from chain.kinds.device_data import KIND as DEVICE_DATA
from chain.kinds.device_data import DeviceData
from chain.kinds.device_registry import DeviceRegister
from chain.payloads import Measurement, Reading
from chain.state import miner_sets_of
from chain.transactions import TRANSACTION_VERSION, Payload, attach_signature
from chain.transition import BlockExecution
from chain.types import Address, Round, Signature, TimestampMs
from cli.load.fleet import make_device
from cli.signing import Sender
from node.executor_pool import ThreadPool
from node.home import Home
from node.storage.chain_store import ChainStore
from node.storage.leveldb import LevelDbStore
from node.storage.snapshots import SnapshotStore
from tests.builders import make_certificate

DEVICES: Final = 200
BLOCK_INTERVAL_MS: Final = 2_500
NO_SIGNATURE: Final = Signature(bytes(64))


async def write_chain(
    home: Home,
    genesis: Genesis,
    *,
    keys: dict[Address, SigningKey],
    registrar: Sender,
    transactions: int,
    per_block: int,
) -> int:
    """Fill an empty database with so many readings and a snapshot of the end; return the height."""
    devices = [make_device(genesis, registrar) for _ in range(DEVICES)]
    with ThreadPool(1) as executor, closing(LevelDbStore(home.chain)) as store:
        chain = ChainStore(store, genesis, executor, path=home.chain)
        time_ms = genesis.time_ms + BLOCK_INTERVAL_MS
        registrations = [
            registrar.sign(
                "device.register",
                DeviceRegister(
                    name=f"long-{number}",
                    key=device.key.public,
                    roles=("sensor",),
                    gateway=None,
                    limits=None,
                ),
                time_ms=time_ms,
            )
            for number, device in enumerate(devices)
        ]
        await _commit(chain, registrations, time_ms, keys)
        bodies = [
            DEVICE_DATA.body.encode(
                DeviceData(
                    payload=Reading(
                        values=(
                            Measurement(name="temperature", value=value, exponent=-1, unit="C"),
                        )
                    )
                )
            )
            for value in range(200, 250)
        ]
        for start in range(0, transactions, per_block):
            time_ms += BLOCK_INTERVAL_MS
            block = [
                attach_signature(
                    Payload(
                        version=TRANSACTION_VERSION,
                        genesis_hash=genesis.hash,
                        kind="device.data",
                        sender=devices[number % DEVICES].address,
                        time_ms=TimestampMs(time_ms),
                        nonce=number.to_bytes(8, "big"),
                        body=bodies[number % len(bodies)],
                    ),
                    NO_SIGNATURE,
                )
                for number in range(start, min(start + per_block, transactions))
            ]
            await _commit(chain, block, time_ms, keys)
        SnapshotStore(store, keep=1).make(chain.view())
        return chain.height


async def _commit(chain, transactions, time_ms, keys) -> None:
    tip = chain.tip
    miners, _ = miner_sets_of(tip.state)
    execution = BlockExecution(
        tip,
        proposer=proposer_of(
            eligible_miners(tip.state, miners, tip.next_height), tip.next_height, Round(0)
        ),
        proposal_round=Round(0),
        time_ms=TimestampMs(time_ms),
        verify=lambda transaction, key: True,
    )
    for transaction in transactions:
        execution.apply(transaction)
    done = execution.finish()
    certificate = make_certificate(done.header, miners, keys)
    block = Block(header=done.header, transactions=tuple(transactions))
    await chain.commit(done, block, certificate)
