"""Hands what peers send to whom it concerns; implements `node.ports.Receiver`."""

from typing import Final, assert_never

from chain.errors import DecodeError
from chain.types import Address
from consensus.messages import Proposal
from node import protocol
from node.announcer import Announcer
from node.answers import Answers
from node.blobs.fetcher import BlobFetcher
from node.bodies import BodyExchange
from node.intake import Intake
from node.metrics import Metrics
from node.ports import Transport
from node.progress import Progress
from node.protocol import (
    Blocks,
    Bodies,
    ChunkAnswer,
    DecidedAnswer,
    GetBlocks,
    GetBodies,
    GetChunk,
    GetDecided,
    GetPast,
    GetPiece,
    GetProposal,
    GetShown,
    PastAnswer,
    PieceAnswer,
    Shown,
    Status,
    Transactions,
)
from node.replica_driver import ReplicaDriver
from node.state_sync import StateSync

MALFORMED_POINTS: Final = 50


class PeerMessages:
    """Knows of every kind of message whose it is; refuses what is malformed."""

    def __init__(
        self,
        *,
        driver: ReplicaDriver,
        intake: Intake,
        bodies: BodyExchange,
        answers: Answers,
        announcer: Announcer,
        progress: Progress,
        state_sync: StateSync,
        fetcher: BlobFetcher,
        transport: Transport,
        metrics: Metrics,
    ) -> None:
        self._driver = driver
        self._intake = intake
        self._bodies = bodies
        self._answers = answers
        self._announcer = announcer
        self._progress = progress
        self._state_sync = state_sync
        self._fetcher = fetcher
        self._transport = transport
        self._metrics = metrics

    def on_connected(self, peer: Address) -> None:
        """Tell a peer how far this node is, and consensus that it is there."""
        self._announcer.tell(peer)
        self._driver.peers.on_connected(peer)

    def on_disconnected(self, peer: Address) -> None:
        """Forget what a peer said."""
        self._progress.forget(peer)
        self._answers.on_disconnected(peer)
        self._driver.sync.on_disconnected(peer)
        self._state_sync.questions.on_disconnected(peer)
        self._fetcher.questions.on_disconnected(peer)

    def on_message(self, peer: Address, kind: int, payload: bytes) -> None:
        """Hand a message to whom it concerns; refuse what is malformed."""
        if kind == protocol.TRANSACTIONS and not self._intake.has_room(peer, len(payload)):
            self._metrics.peer_refused("intake_full")
            return
        body: protocol.Body | None = None
        try:
            if kind == protocol.CONSENSUS:
                self._driver.peers.on_message(peer, payload)
            else:
                body = protocol.decode_body(kind, payload)
        except DecodeError as error:
            self._metrics.peer_refused("malformed")
            self._transport.penalise(peer, MALFORMED_POINTS, str(error))
        # Not within the above: what cannot be read of this node's own disk is no peer's fault.
        if body is not None:
            self._on_body(peer, body)

    def _on_body(self, peer: Address, body: protocol.Body) -> None:
        match body:
            case Status():
                self._progress.on_status(peer, body)
                self._driver.sync.on_progress()
                self._state_sync.on_progress()
                self._driver.peers.on_status(peer, body.height)
            case Transactions():
                self._bodies.on_transactions(body.wires)
                self._intake.on_transactions(peer, body.wires)
            case GetBodies():
                self._bodies.on_get_bodies(peer, body)
            case Bodies():
                self._bodies.on_bodies(peer, body)
            case GetProposal():
                self._driver.on_get_proposal(peer, body)
            case Proposal():
                self._driver.on_proposal(peer, body)
            case GetBlocks() | GetDecided() | GetPiece() | GetPast() | GetChunk():
                self._answers.ask(peer, body)
            case Shown():
                self._driver.peers.on_shown(peer, body)
            case GetShown():
                self._driver.peers.on_get_shown(peer, body)
            case Blocks():
                self._driver.sync.on_blocks(peer, body)
            case DecidedAnswer() | PieceAnswer() | PastAnswer():
                self._state_sync.questions.on_answer(peer, body)
            case ChunkAnswer():
                self._fetcher.questions.on_answer(peer, body)
            case _:
                assert_never(body)
