"""The federated rounds as a node tells of them, and the chain as a participant sees it."""

from collections.abc import Iterable, Mapping
from typing import Any

from chain.errors import DecodeError
from chain.federated.records import (
    PARTICIPANTS_MAX,
    ROUND_TABLE,
    SHARES_TABLE,
    FederatedRound,
    SharesRecord,
)
from chain.records.devices import DEVICE_TABLE
from chain.types import Address, Digest
from cli.client import Client, Document
from cli.errors import Refused, Unreachable
from cli.proofs import ProvenState
from cli.signing import Sender, submit


async def fetch_round(client: Client, round_id: Digest) -> FederatedRound:
    """Return a federated round; raises `Refused` where there is none."""
    document = await client.get(f"/v1/rounds/{round_id.hex()}")
    found: FederatedRound = _parsed(client, ROUND_TABLE.record, document)
    return found


class RoundReader:
    """The federated rounds as a node tells of them, proven where a hash is trusted.

    Parameters
    ----------
    trust : Digest or None
        Hash of a block, or of the genesis document. None: the node is believed.
    """

    def __init__(self, client: Client, trust: Digest | None) -> None:
        self._client = client
        self._proven = None if trust is None else ProvenState(client, trust)

    async def check(self, device: Address) -> None:
        """Make sure that the trusted hash leads to what a device is now; raises as `find`.

        A node that does not know the hash would else be taken for one that knows no round.
        """
        if self._proven is not None:
            path = f"/v1/devices/{device.hex()}/proof"
            await self._proven.record(path, DEVICE_TABLE, device)

    async def find(self, round_id: Digest) -> FederatedRound:
        """Return a round; raises `Refused` if there is none, `Missed` if it is not proven."""
        if self._proven is None:
            return await fetch_round(self._client, round_id)
        path = f"/v1/rounds/{round_id.hex()}/proof"
        found = await self._proven.record(path, ROUND_TABLE, round_id)
        if found is None:
            detail = f"there is no federated round {round_id.hex()}, or it is long over"
            raise Refused(status=404, code="not_found", detail=detail)
        return found

    async def shares(
        self, round_id: Digest, owners: Iterable[Address]
    ) -> Mapping[Address, SharesRecord]:
        """Return what members have handed to the others, if they have; raises as `find`."""
        path = f"/v1/rounds/{round_id.hex()}/shares"
        if self._proven is None:
            items = await self._client.pages(path, limit=PARTICIPANTS_MAX)
            return {
                Address(bytes.fromhex(item["device"])): _parsed(
                    self._client, SHARES_TABLE.record, item
                )
                for item in items
            }
        proven = {}
        for owner in owners:
            key = round_id + owner
            record = await self._proven.record(f"{path}/{owner.hex()}/proof", SHARES_TABLE, key)
            if record is not None:
                proven[owner] = record
        return proven

    async def organisations(self, devices: Iterable[Address]) -> Mapping[Address, Address]:
        """Return to which organisation each of these devices belongs; raises as `find`."""
        found = {}
        for device in devices:
            if self._proven is None:
                text = (await self._client.device(device.hex()))["organisation"]
                found[device] = Address(bytes.fromhex(text))
            else:
                path = f"/v1/devices/{device.hex()}/proof"
                record = await self._proven.record(path, DEVICE_TABLE, device)
                assert record is not None, "whoever takes part is registered"
                found[device] = record.organisation
        return found


class ChainPort:
    """The chain as one device sees it through one node; a `RoundPort`."""

    def __init__(self, client: Client, sender: Sender, reader: RoundReader) -> None:
        self._client = client
        self._sender = sender
        self._reader = reader

    async def height(self) -> int:
        """Return how far the node says that the chain is; it decides who speaks first alone."""
        return int((await self._client.status())["height"])

    async def shares(
        self, round_id: Digest, owners: Iterable[Address]
    ) -> Mapping[Address, SharesRecord]:
        """Return what members have handed to the others."""
        return await self._reader.shares(round_id, owners)

    async def organisations(self, devices: Iterable[Address]) -> Mapping[Address, Address]:
        """Return to which organisation each of these devices belongs."""
        return await self._reader.organisations(devices)

    async def send(self, kind: str, body: Any) -> None:
        """Send a transaction of the device and wait until it is committed."""
        await submit(self._client, self._sender.sign(kind, body), wait=True)

    async def hand_in(self, digest: Digest, data: bytes) -> None:
        """Hand a blob to the node."""
        await self._client.put_blob(digest.hex(), data)


def _parsed(client: Client, record: Any, document: Document) -> Any:
    """Read the fields of a record out of what the RPC answers, which may hold more."""
    try:
        return record.parse({name: document.get(name) for name in record.fields}, "answer")
    except DecodeError as error:
        raise Unreachable(client.url, f"its answer is no federated round ({error})") from error
