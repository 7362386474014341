"""A chain that a store keeps: what `tests.builders.Chain` commits, committed to a `ChainStore`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chain import lookback
from chain.blocks import Block
from chain.genesis import Genesis
from chain.transactions import Transaction
from chain.transition import Execution, check_block
from node.errors import CorruptStore
from node.ports import Executor, KeyValueStore
from node.storage import chain_store
from node.storage.chain_store import ChainStore
from node.storage.kv import MemoryStore
from tests.builders import Chain, flow, make_genesis, make_model, named_file, reading

PATH = Path("memory")


def shrink_windows(monkeypatch: pytest.MonkeyPatch, *, undo: int = 3, verdicts: int = 2) -> None:
    """Let rules look back less far, and a node go back fewer blocks, than chains of tests have."""
    monkeypatch.setattr(chain_store, "UNDO_BLOCKS", undo)
    for module in (chain_store, lookback):
        monkeypatch.setattr(module, "VERDICT_WINDOW", verdicts)


class Inline:
    """An executor that calls at once."""

    async def run(self, function: Callable[..., Any], *args: object) -> Any:
        return function(*args)


class Worn(MemoryStore):
    """A store on a worn disk: reading the keys in `bad` fails as LevelDB's checksums do."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: set[bytes] = set()

    def get(self, key: bytes) -> bytes | None:
        if key in self.bad:
            raise CorruptStore(PATH, "a checksum is wrong")
        return super().get(key)


class StoredChain:
    """Commits each block in memory and in a store.

    Attributes
    ----------
    chain : Chain
        What the store should hold; makes the transactions.
    store : ChainStore
        The one under test.
    """

    def __init__(
        self,
        kv: KeyValueStore | None = None,
        *,
        genesis: Genesis | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.kv = kv or MemoryStore()
        self.chain = Chain(genesis or make_genesis(model=make_model()))
        self.executor = executor or Inline()
        self.store = self.open()
        self.certificates: list[Any] = []

    def open(self) -> ChainStore:
        """Open what is stored, once more."""
        return ChainStore(self.kv, self.chain.genesis, self.executor, path=PATH)

    async def commit(self, *transactions: Transaction, **fields: Any) -> Execution:
        """Commit a block to both."""
        miners = self.chain.miners
        execution = self.chain.commit(*transactions, **fields)
        self.certificates.append(self.chain.certificate(execution.header, miners))
        await self.catch_up()
        return execution

    async def catch_up(self) -> None:
        """Commit to the store what only the chain in memory has."""
        for block in self.chain.blocks[self.store.height :]:
            execution = self.execute(block)
            certificate = self.certificates[block.header.height - 1]
            await self.store.commit(execution, block, certificate)

    def execute(self, block: Block) -> Execution:
        """Return what a block does on top of the store's tip."""
        return check_block(self.store.tip, block, lambda transaction, key: True)

    async def fill(self, blocks: int = 3) -> None:
        """Commit devices, a gateway's among them, then blocks with all reports and verdicts.

        The first block is of a later round, so that its end brings something about.
        """
        gateway, first = self.chain.registration("gateway", roles=("gateway",))
        await self.commit(first, round=1)
        device, second = self.chain.registration("device", gateway=gateway)
        await self.commit(second)
        reported = reading()
        for _ in range(blocks):
            judged = self.store.height
            verdicts = []
            if self.chain.tip.recent.flows(judged):
                verdicts = [self.chain.verdict(miner, judged, [0]) for miner in range(3)]
            reports = [
                self.chain.by_device(device, flow()),
                self.chain.by_device(gateway, reported),
            ]
            await self.commit(*verdicts, *reports)
            reported = named_file()

    async def fill_more(self) -> None:
        """Commit two blocks more, a device and what it sends."""
        device, registration = self.chain.registration(f"device-{self.store.height}")
        await self.commit(registration)
        await self.commit(self.chain.by_device(device, flow()))


def dump(kv: KeyValueStore) -> dict[bytes, bytes]:
    """Return every entry."""
    return dict(kv.scan(start=b"", stop=b"\xff" * 64))
