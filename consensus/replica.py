"""The replica: `step(event, now) -> Output`."""

from chain.crypto import SigningKey
from chain.types import Address, Digest
from consensus.durable import DurableState
from consensus.events import Event
from consensus.output import Output
from consensus.snapshot import Snapshot


class Replica:
    """One miner's part in agreement; pure, fed by a driver.

    Parameters
    ----------
    signer : SigningKey
        The key of `miner_id`.
    miner_id : Address
        An id outside the miner set makes an observer, which follows and never signs.
    durable : DurableState
        ``recover()`` of the log.
    """

    def __init__(self, *, signer: SigningKey, miner_id: Address, durable: DurableState) -> None:
        self._signer = signer
        self._miner_id = miner_id
        self._durable = durable

    @property
    def durable(self) -> DurableState:
        """What the log adds up to; ``durable.records()`` rewrites it, best after a commit."""
        return self._durable

    def step(self, event: Event, now: int) -> Output:
        """Take one event, and return what has to happen.

        Parameters
        ----------
        now : int
            Monotonic time in nanoseconds.

        Raises
        ------
        InvalidMessage
            The message was dropped and changed nothing.
        SafetyViolation
            The node has to stop.
        """
        raise NotImplementedError

    def holders(self, digest: Digest) -> tuple[Address, ...]:
        """Return the members that said they hold the block, best first."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot | None:
        """Return what this replica waits for; None before the first `StartHeight`."""
        raise NotImplementedError
