"""A fake node whose miner does its part in federated rounds of the audit mode."""

from contextlib import suppress
from typing import Any

from aiohttp import web

from chain.blobs import CHUNK_SIZE
from chain.crypto import address_of
from chain.federated.records import ROUND_TABLE, FederatedRound
from chain.kinds.rounds import RoundAggregate, RoundAttest
from chain.merkle import merkle_root
from chain.types import Address, Digest
from cli.signing import Sender
from ml_validator.errors import InvalidUpdate
from ml_validator.federated.fixed_point import encode_update
from ml_validator.federated.on_chain import aggregate_of, read_update
from tests.unit.cli.fake_node import MINER, FakeNode


class LearningNode(FakeNode):
    """Attests updates as soon as it has all that are committed, and says what comes of them."""

    has_heartbeat = False
    """Whether a block is made whenever a round is looked at, whatever it waits for."""
    lies = False
    """Whether what it proves is another round."""

    def record(self, id: str) -> FederatedRound | None:
        return self.chain.tip.state.get(ROUND_TABLE, Digest(bytes.fromhex(id)))

    def act(self, kind: str, body: Any) -> None:
        miner = Sender(
            genesis_hash=self.chain.genesis.hash, address=address_of(MINER.public), key=MINER
        )
        self.chain.commit([miner.sign(kind, body)])

    async def _round(self, request: web.Request) -> web.Response:
        self._beat(request.match_info["id"])
        return await super()._round(request)

    async def _round_proof(self, request: web.Request) -> web.Response:
        self._beat(request.match_info["id"])
        answer = await super()._round_proof(request)
        if self.lies:
            # Another word of the same length in the record: still a round, but not this one.
            text = answer.text or ""
            assert b"round".hex() in text
            return web.json_response(text=text.replace(b"round".hex(), b"other".hex()))
        return answer

    def _beat(self, id: str) -> None:
        """Make the empty block of a chain on which a round is open."""
        found = self.record(id)
        if found is not None and found.is_open and (self.has_heartbeat or found.phase == "draw"):
            self.chain.commit([])

    async def _put_blob(self, request: web.Request) -> web.Response:
        answer = await super()._put_blob(request)
        for key, found in list(self.chain.tip.state.scan(ROUND_TABLE)):
            if found.phase == "attest":
                self._attest(Digest(key), found)
        return answer

    def _attest(self, id: Digest, found: FederatedRound) -> None:
        held: dict[Address, bytes] = {}
        said = 0
        for index, member in enumerate(found.members):
            if member.update is None:
                continue
            if member.update.hex() not in self.blobs:
                return
            held[member.device] = self.blobs[member.update.hex()]
            with suppress(InvalidUpdate):
                read_update(held[member.device], member, found)
                said |= 1 << index
        bits = said.to_bytes((len(found.members) + 7) // 8, "big")
        self.act("round.attest", RoundAttest(round=id, held=bits))
        attested = self.record(id.hex())
        if attested is None or attested.phase != "aggregate":
            return
        total = encode_update(aggregate_of(id, attested, reveals={}, blobs=held))
        root = merkle_root(
            [total[start : start + CHUNK_SIZE] for start in range(0, len(total), CHUNK_SIZE)]
        )
        self.blobs[found.terms.blob_of(root).hex()] = total
        self.act("round.aggregate", RoundAggregate(round=id, root=root))
