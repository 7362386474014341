"""What must hold in every world, whatever happens in it.

The checkers see nodes from outside only: what they write to their disks and what they send. A
broken rule raises `Violation` on the spot, so that the trace ends where it was broken.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from chain.blocks import Block, Header, decode_header
from chain.certificate import CommitCertificate, decode_certificate
from chain.errors import InvalidBlock, InvalidCertificate, UntrustedHeader
from chain.genesis import Genesis, genesis_header, genesis_state
from chain.kinds.evidence import KIND as EVIDENCE
from chain.light_client import LightClient, verify_header
from chain.lookback import Lookback
from chain.miners import MinerSet
from chain.records.miners import EVIDENCE_TABLE
from chain.state import MemorySource, State, miner_sets_of
from chain.transactions import Transaction, decode_transaction
from chain.transition import Tip, advance, check_block
from chain.types import Address, Digest
from consensus.codec import decode_message
from consensus.durable import Signed, encode_record
from consensus.messages import Message, Position, Prepare, position_of
from node.ports import KeyValueStore, WriteBatch
from node.storage import schema
from node.storage.verify import verify_store

DATABASE_FINDINGS_MAX: Final = 5
"""Findings of one database that are told."""


MESSAGES_PER_SECOND_MAX: Final = 4_000
"""Messages that reach one node in a simulated second. The busiest worlds come to a tenth of it."""


class Violation(AssertionError):
    """A rule is broken: the seed shows a bug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBlock:
    """A block that some node has committed."""

    block: Block
    miners: MinerSet
    state_root: Digest
    first_by: str


class Ledger:
    """Agreement, validity, certificates and exactly-once, over what honest nodes commit.

    The first node to commit a height settles what the chain is there: the block is executed again
    from genesis by nobody but this class. Every other node has to commit the same.

    Parameters
    ----------
    byzantine : collection of Address
        The miners that may be convicted of signing two things.
    """

    def __init__(self, genesis: Genesis, *, byzantine: Collection[Address] = ()) -> None:
        self._genesis = genesis
        self._byzantine = byzantine
        source = MemorySource(genesis_state(genesis))
        state = State(source)
        self._source = source
        self.tip = Tip(header=genesis_header(genesis, state.root), state=state, recent=Lookback())
        self._light_client = LightClient(self.tip.header)
        self.blocks: list[LedgerBlock] = []
        self.places: dict[Digest, tuple[int, int]] = {}
        self.forbidden: dict[Digest, str] = {}

    @property
    def height(self) -> int:
        """The highest height that any node has committed."""
        return len(self.blocks)

    def is_convicted(self, miner: Address) -> bool:
        """Tell whether evidence against a miner is on the chain."""
        return self.tip.state.get(EVIDENCE_TABLE, miner) is not None

    def forbid(self, transaction: Transaction, why: str) -> None:
        """Say that a transaction may never be committed."""
        self.forbidden[transaction.id] = why

    def on_write(self, node: str, batch: WriteBatch) -> Header | None:
        """Look into what a node writes to its store; return the header if it commits a block."""
        place = batch.writes.get(schema.TIP_KEY)
        if place is None or place == schema.height_bytes(0):
            return None
        if schema.ADOPT_KEY in batch.writes:
            # A chain from a snapshot, whose blocks were committed by others.
            if schema.read_height(place) > self.height:
                raise Violation(f"{node} adopts height {schema.read_height(place)}")
            return None
        header, body, certificate = (
            batch.writes.get(prefix + place)
            for prefix in (schema.HEADER, schema.BODY, schema.CERTIFICATE)
        )
        if header is None or body is None or certificate is None:
            raise Violation(f"{node} writes half of a block")
        block = Block(
            header=decode_header(header),
            transactions=tuple([decode_transaction(wire) for wire in schema.decode_body(body)]),
        )
        self._on_block(node, block, decode_certificate(certificate))
        return block.header

    def _on_block(self, node: str, block: Block, certificate: CommitCertificate) -> None:
        height = block.header.height
        if height > self.height + 1:
            raise Violation(f"{node} commits height {height} before {self.height + 1}")
        if height == self.height + 1:
            self._extend(node, block, certificate)
        else:
            self._check_certificate(node, block.header, certificate)
        known = self.blocks[height - 1]
        if known.block.header != block.header:
            raise Violation(
                f"height {height} differs: {node} has {block.header.hash.hex()[:12]}, "
                f"{known.first_by} has {known.block.header.hash.hex()[:12]}"
            )
        if [t.digest for t in known.block.transactions] != [t.digest for t in block.transactions]:
            raise Violation(f"height {height}: {node} has other transactions than {known.first_by}")

    def _check_certificate(self, node: str, header: Header, certificate: CommitCertificate) -> None:
        """Check a certificate of a height that is known already; there may be many good ones."""
        try:
            verify_header(header, certificate, self.blocks[header.height - 1].miners)
        except InvalidCertificate as error:
            raise Violation(f"{node} commits {header.height} unproven: {error}") from error

    def _extend(self, node: str, block: Block, certificate: CommitCertificate) -> None:
        header = block.header
        miners, _ = miner_sets_of(self.tip.state)
        try:
            self._light_client.advance(header, certificate, miners, now_ms=header.time_ms)
            execution = check_block(self.tip, block, Transaction.is_signed_by)
        except (InvalidCertificate, UntrustedHeader) as error:
            raise Violation(f"{node} commits {header.height} unproven: {error}") from error
        except InvalidBlock as error:
            raise Violation(f"{node} commits a bad block {header.height}: {error}") from error
        for index, transaction in enumerate(block.transactions):
            if transaction.id in self.places:
                raise Violation(
                    f"{transaction.id.hex()[:12]} stands in {self.places[transaction.id]} and "
                    f"again in {header.height}"
                )
            if transaction.id in self.forbidden:
                raise Violation(f"{node} commits {self.forbidden[transaction.id]}")
            if transaction.payload.kind == EVIDENCE.name:
                accused = EVIDENCE.decode(transaction).miner
                if accused not in self._byzantine:
                    raise Violation(f"{node} commits evidence against {accused.hex()[:12]}")
            self.places[transaction.id] = (header.height, index)
        self._source.apply(execution.delta)
        self.tip = advance(self.tip, execution)
        self.blocks.append(
            LedgerBlock(block=block, miners=miners, state_root=self.tip.state.root, first_by=node)
        )

    def check_database(self, node: str, store: KeyValueStore, *, is_whole: bool = True) -> int:
        """Check a database against this chain, every entry or headers alone; return its height."""
        if store.get(schema.GENESIS_KEY) is None:
            return 0
        check = verify_store(store, self._genesis) if is_whole else ()
        findings = list(islice(check, DATABASE_FINDINGS_MAX))
        if findings:
            raise Violation(f"the database of {node}: {findings}")
        place = store.get(schema.TIP_KEY)
        height = 0 if place is None else int.from_bytes(place, "big")
        if height > self.height:
            raise Violation(f"{node} holds height {height}, which nobody was seen to commit")
        first = store.get(schema.first_key(schema.HEADER))
        lowest = 1 if first is None else schema.read_height(first)
        for number, known in enumerate(self.blocks[lowest - 1 : height], start=lowest):
            stored = store.get(schema.HEADER + schema.height_bytes(number))
            if stored is None or decode_header(stored) != known.block.header:
                raise Violation(f"height {number} of {node} has changed")
        return height


class Promises:
    """No honest equivocation, over crashes and restarts; durable before sent; signed in order.

    Parameters
    ----------
    genesis_hash : Digest
        What every statement binds.
    on_signed : callable
        ``on_signed(node, message)``, told of each message that a miner shows for the first time.
    """

    def __init__(
        self, genesis_hash: Digest, *, on_signed: Callable[[str, Message], None] = lambda *_: None
    ) -> None:
        self._genesis_hash = genesis_hash
        self._on_signed = on_signed
        self._signed: dict[tuple[Address, Position], bytes] = {}
        self._last: dict[Address, Position] = {}
        self._logged: dict[str, set[bytes]] = {}
        self._stored: dict[str, set[bytes]] = {}
        self._checked: dict[str, bytes] = {}

    @property
    def count(self) -> int:
        """How many different messages honest miners have signed and sent."""
        return len(self._signed)

    def last(self, miner: Address) -> Position | None:
        """Return the place of what an honest miner has signed last."""
        return self._last.get(miner)

    def forget_disk(self, node: str) -> None:
        """Take note that a node's disk is lost, with all that was durable on it."""
        self._logged.pop(node, None)
        self._stored.pop(node, None)
        self._checked.pop(node, None)

    def on_logged(self, node: str, records: Sequence[bytes]) -> None:
        """Take note of what is durable in a node's log."""
        self._logged.setdefault(node, set()).update(records)

    def on_written(self, node: str, batch: WriteBatch) -> None:
        """Take note of blocks that are durable in a node's store."""
        stored = self._stored.setdefault(node, set())
        for prefix in (schema.PROPOSED, schema.HASH):
            stored.update(key[1:] for key in batch.writes if key[:1] == prefix)

    def on_sent(self, node: str, miner: Address, data: bytes) -> None:
        """Check a message of consensus that leaves a node, before anybody has it."""
        if self._checked.get(node) is data:
            return  # the same to the next peer
        self._checked[node] = data
        message = decode_message(data)
        if message.sender != miner:
            return
        position = position_of(message)
        statement = message.statement(self._genesis_hash)
        known = self._signed.get((miner, position))
        if known is None:
            if position <= self._last.get(miner, Position(message.height, message.round, -1)):
                raise Violation(f"{node} signs {position} behind {self._last[miner]}")
            self._signed[miner, position] = statement
            self._last[miner] = position
            self._on_signed(node, message)
        elif known != statement:
            raise Violation(f"{node} signs two things at {position}")
        if encode_record(Signed(message=message)) not in self._logged.get(node, set()):
            raise Violation(f"{node} sends {position} before it is in its log")
        if isinstance(message, Prepare) and message.digest not in self._stored.get(node, set()):
            raise Violation(f"{node} attests a block that is not on its disk")


class Traffic:
    """No storms: what nodes send each other stays in proportion to what happens."""

    def __init__(self) -> None:
        self._second = -1
        self._counts: dict[str, int] = {}
        self.peak = 0

    def on_delivered(self, node: str, time_s: float) -> None:
        """Count a message that reaches a node."""
        if int(time_s) != self._second:
            self._second = int(time_s)
            self._counts = {}
        count = self._counts[node] = self._counts.get(node, 0) + 1
        self.peak = max(self.peak, count)
        if count > MESSAGES_PER_SECOND_MAX:
            raise Violation(f"{node} gets {count} messages in one second")
