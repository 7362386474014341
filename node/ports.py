"""The seams between a node's logic and the world.

Everything a node does to the outside goes through one of these Protocols. ``node`` implements each
once for real; the deterministic simulator implements each again, and both implementations pass the
same contract tests. Logic that needs the world takes a port as an argument and never imports an
implementation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from chain.payloads import Flow
from chain.transactions import Payload
from chain.types import Address, PublicKey, Signature
from consensus.events import MessageSigned, SignerSeen, SigningRefused
from consensus.output import SignMessage, TellFloor

if TYPE_CHECKING:
    # It brings numpy, and commands that never judge load this module too.
    from ml_validator.registration import Registration

Result = TypeVar("Result")


class Clock(Protocol):
    """The only source of time.

    Notes
    -----
    Timers use the monotonic reading, chain time the wall clock; the two are never mixed, so that a
    step of the wall clock moves no deadline. Sleeping is ``asyncio.sleep``: the simulator runs the
    node on an event loop whose time is simulated.
    """

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start, never going back."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as the operating system believes; may jump."""
        ...


class Random(Protocol):
    """The only source of unpredictability."""

    def bytes(self, size: int) -> bytes:
        """Return `size` random bytes fit for nonces."""
        ...

    def below(self, bound: int) -> int:
        """Return an integer drawn evenly from ``[0, bound)``."""
        ...


@dataclass(slots=True)
class WriteBatch:
    """Writes which become durable together or not at all; a value of None deletes the key."""

    writes: dict[bytes, bytes | None] = field(default_factory=dict)

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove `key`; removing what is not there is no error."""
        self.writes[key] = None


class KeyValueStore(Protocol):
    """An ordered map of bytes on disk."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None where there is none."""
        ...

    def scan(
        self, *, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate entries with ``start <= key < stop`` in key order, over a consistent view."""
        ...

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        """Apply `batch` atomically; with `sync`, return only once it is durable.

        Without `sync` a batch may be lost when the power fails, even where later ones are kept.

        Raises
        ------
        node.errors.StorageError
            The medium refused: full, failing or corrupt. The store then takes no more writes until
            it is opened again, and only then it shows whether the batch was kept: whole or not
            at all.
        """
        ...

    def compact(self, *, start: bytes, stop: bytes) -> None:
        """Give the room of removed entries with ``start <= key < stop`` back; may take a while.

        No answer changes by it, and others may read and write meanwhile.
        """
        ...

    def close(self) -> None:
        """Release the store; further calls are errors."""
        ...


class Files(Protocol):
    """A flat directory of files, for what is too large for the store.

    All methods may raise `node.errors.StorageError`.
    """

    def sizes(self) -> dict[str, int]:
        """Return the size of every file by name."""
        ...

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on; none where there is no such file."""
        ...

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write at `offset` of a file, which is made where it is missing; not durable yet."""
        ...

    def sync(self, name: str) -> None:
        """Make what was written to a file durable."""
        ...

    def finish(self, name: str, new_name: str) -> None:
        """Sync a file and give it another name, durably; it takes the place of one of that name."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...


class Log(Protocol):
    """An append-only file of records: the write-ahead log of consensus.

    Opening reads what is there. Only a torn last record is cut off; damage elsewhere refuses to
    open, for a forgotten vote could become a second, different one.
    """

    def records(self) -> Sequence[bytes]:
        """Return the records found at opening, oldest first."""
        ...

    def append(self, records: Sequence[bytes]) -> None:
        """Append and fsync `records`; on return all of them are durable.

        Raises
        ------
        node.errors.StorageError
            The medium refused, and the log takes no more records until it is opened again; all of
            `records`, or none, are found then.
        node.errors.RecordTooLarge, node.errors.LogFull
            Above a bound; nothing was written and the log goes on.
        """
        ...

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Replace the whole log by `records`, durably and atomically (write, fsync, rename)."""
        ...

    def close(self) -> None:
        """Release the file and its lock."""
        ...


class Receiver(Protocol):
    """What a transport calls; the calls come from the event loop, one at a time."""

    def on_connected(self, peer: Address) -> None:
        """Tell that an authenticated session with `peer` stands."""
        ...

    def on_disconnected(self, peer: Address) -> None:
        """Tell that the session with `peer` has ended."""
        ...

    def on_message(self, peer: Address, kind: int, payload: bytes) -> None:
        """Deliver one message of `peer`; must not raise for anything a peer can send."""
        ...


class Transport(Protocol):
    """Authenticated, ordered, unreliable messages between nodes known by their node id.

    A message may be lost when a session breaks. Within one session order holds among the urgent
    messages (kinds below 16), and among the bulk ones; urgent messages overtake bulk ones.
    """

    async def run(self, receiver: Receiver) -> None:
        """Listen, dial and deliver until cancelled."""
        ...

    def send(self, peer: Address, kind: int, payload: bytes) -> bool:
        """Queue a message; False where no session stands or the peer's queue is full."""
        ...

    def connected(self) -> Sequence[Address]:
        """Peers with a standing session, in ascending order of their ids."""
        ...

    def trouble(self, peer: Address) -> str | None:
        """Return why `peer` could not be reached the last time, a `node.p2p.errors.Reason`.

        None where it could, or no try was made.
        """
        ...

    def penalise(self, peer: Address, points: int, reason: str) -> None:
        """Lower the peer's score; below the limit it is disconnected and kept away for a while."""
        ...


class Executor(Protocol):
    """Runs blocking or heavy functions off the event loop."""

    async def run(self, function: Callable[..., Result], *args: object) -> Result:
        """Return ``function(*args)``, or raise what it raised."""
        ...


class RemoteSigner(Protocol):
    """The way to the process that has the miner's key."""

    def ask(self, request: SignMessage | TellFloor) -> None:
        """Hand on what consensus wants signed, in its order; does not wait.

        The answers come by the `tell` of `run`. Dropped where the process cannot be reached.
        """
        ...

    async def sign(self, key: PublicKey, payload: Payload) -> Signature:
        """Return the signature of a transaction's payload.

        Raises
        ------
        node.errors.NotSigned
            It is refused, or the process cannot be reached.
        """
        ...

    async def run(
        self, tell: Callable[[SignerSeen | MessageSigned | SigningRefused], None]
    ) -> None:
        """Keep in touch until cancelled, and tell consensus what comes of it."""
        ...


class VerdictSource(Protocol):
    """Judges flows; the model runs beside the event loop, never in it."""

    async def judge(self, model: "Registration", flows: Sequence[Flow]) -> Sequence[int | None]:
        """Return one score in parts per million for each flow, None where it is unreadable.

        An honest device sends no flow that has the model's schema and that the model cannot read.
        For no flows, it only loads the model.

        Raises
        ------
        ml_validator.errors.MissingModel
            The model is not here.
        ml_validator.errors.RefusedModel
            It is damaged, or another one than is registered; asking again changes nothing.
        ml_validator.errors.ModelError
            Judging did not work.
        """
        ...
