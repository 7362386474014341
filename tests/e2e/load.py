"""A steady load on a network whose nodes come and go, and the book of what they promised."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from chain.transactions import Transaction
from cli.client import Client
from cli.errors import Refused, Unreachable
from cli.signing import Sender
from tests.e2e.network import reading

STEPS_PER_S: Final = 10
SINGLE_EVERY: Final = 10
"""One in so many transactions is sent alone and waits for its receipt."""
REQUESTS_MAX: Final = 400
"""Requests under way; beyond them the load waits, as its senders would."""
FOLLOW_S: Final = 0.2


class Book:
    """What nodes have said, of which nothing may be taken back.

    Parameters
    ----------
    acknowledged : dict of str to int
        Ids of transactions whose receipt some node gave, and the height it named.
    blocks : dict of int to str
        The hash of each block that some node served.
    """

    def __init__(self) -> None:
        self.submitted: set[str] = set()
        self.acknowledged: dict[str, int] = {}
        self.blocks: dict[int, str] = {}
        self.receipts = 0
        self.refused: Counter[str] = Counter()

    def on_receipt(self, answer: dict[str, Any]) -> None:
        """Note the receipt that a client waited for."""
        assert answer["receipt"]["transaction_id"] == answer["id"]
        self.receipts += 1
        self._acknowledge(answer["id"], answer["height"])

    def on_block(self, block: dict[str, Any]) -> None:
        """Note a block that a node served; another one at its height would be a fork."""
        header = block["header"]
        first = self.blocks.setdefault(header["height"], header["hash"])
        assert first == header["hash"], f"two blocks of height {header['height']}"
        for id in block["transaction_ids"]:
            self._acknowledge(id, header["height"])

    def _acknowledge(self, id: str, height: int) -> None:
        first = self.acknowledged.setdefault(id, height)
        assert first == height, f"{id} committed at {first} and at {height}"


class Load:
    """Sends readings to nodes in turn; what a dead node was sent is lost, as it may be.

    Parameters
    ----------
    clients : sequence of Client
        One for each node.
    devices : sequence of Sender
        Whose readings they are.
    rate : int
        Transactions a second.
    """

    def __init__(
        self, clients: Sequence[Client], devices: Sequence[Sender], book: Book, *, rate: int
    ) -> None:
        self._clients = clients
        self._devices = devices
        self._book = book
        self._rate = rate
        self._room = asyncio.Semaphore(REQUESTS_MAX)
        self._stopping = False
        self.seconds = 0.0

    async def run(self) -> None:
        """Send until `stop`, and return once every request has ended."""
        started = time.monotonic()
        sent = step = 0
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                step += 1
                batch: list[Transaction] = []
                due = min(self._rate * step // STEPS_PER_S, sent + self._rate)
                while sent < due:
                    transaction = reading(self._devices[sent % len(self._devices)], sent)
                    if sent % SINGLE_EVERY == 0:
                        client = self._clients[sent // SINGLE_EVERY % len(self._clients)]
                        await self._room.acquire()
                        group.create_task(self._send_one(client, transaction))
                    else:
                        batch.append(transaction)
                    sent += 1
                if batch:
                    await self._room.acquire()
                    client = self._clients[step % len(self._clients)]
                    group.create_task(self._send_many(client, batch))
                await asyncio.sleep(max(0.0, started + step / STEPS_PER_S - time.monotonic()))
            self.seconds = time.monotonic() - started

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping = True

    async def _send_one(self, client: Client, transaction: Transaction) -> None:
        self._book.submitted.add(transaction.id.hex())
        try:
            answer = await client.submit(transaction.wire, wait=True)
        except Unreachable:
            return
        except Refused as refusal:
            self._book.refused[refusal.code] += 1
            return
        finally:
            self._room.release()
        if answer["status"] == "committed":
            self._book.on_receipt(answer)

    async def _send_many(self, client: Client, batch: Sequence[Transaction]) -> None:
        self._book.submitted.update(transaction.id.hex() for transaction in batch)
        try:
            results = await client.submit_batch([transaction.wire for transaction in batch])
        except Unreachable:
            return
        except Refused as refusal:
            self._book.refused[refusal.code] += len(batch)
            return
        finally:
            self._room.release()
        self._book.refused.update(r.refusal.code for r in results if r.refusal is not None)


async def follow(client: Client, book: Book) -> None:
    """Write every block that a node serves into the book, until cancelled."""
    height = 1
    while True:
        with suppress(Unreachable, Refused):
            page = await client.get("/v1/blocks", order="asc", cursor=str(height), limit="100")
            for block in page["items"]:
                book.on_block(block)
                height = block["header"]["height"] + 1
        await asyncio.sleep(FOLLOW_S)
