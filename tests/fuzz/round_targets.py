"""What the kinds of federated rounds do with bodies out of the blue, each in its phase."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Final

from chain.errors import DecodeError
from chain.transactions import Payload, Transaction, attach_signature
from chain.types import SIGNATURE_SIZE, Signature
from tests.builders import Chain, code_of
from tests.federation import Federation, Forgery, make_deadlines
from tests.fuzz.target import Target, pure
from tests.tables import TABLES

STEPS: Final[dict[str, tuple[str, Callable[[Federation], Transaction]]]] = {
    "round.open": ("join", lambda found: found.opening()),
    "round.abort": ("join", lambda found: found.abort()),
    "round.join": ("join", lambda found: found.join(found.devices[0])),
    "round.share": ("share", lambda found: found.share(found.devices[0])),
    "update.commit": ("commit", lambda found: found.commit(found.devices[0])),
    "round.complaint": ("commit", lambda found: found.complaint(*found.devices[:2])),
    "round.attest": ("attest", lambda found: found.attest(0)),
    "update.reveal": ("reveal", lambda found: found.reveal(found.devices[0])),
    "round.aggregate": ("aggregate", lambda found: found.aggregate(0)),
}
"""Of each kind, in which phase it is sent, and one that passes then."""


def targets() -> Iterator[Target]:
    """Yield one for each kind."""
    for kind in STEPS:
        yield _target(kind)


def _target(kind: str) -> Target:
    phase, _ = STEPS[kind]

    def check(data: bytes) -> bool:
        try:
            payload = replace(_sent(kind), body=data)
            transaction = attach_signature(payload, Signature(bytes(SIGNATURE_SIZE)))
        except DecodeError:
            return False
        execution = _round(phase).chain.execution()
        if code_of(execution, transaction) is not None:
            return False
        for key, value in execution.finish().delta.items():
            table = next(table for table in TABLES if key.startswith(table.prefix))
            assert value is None or table.encode(table.decode(value)) == value, "it is not read"
        return True

    return pure(f"{kind} in its phase", "msgpack", lambda: [_sent(kind).body], check)


@cache
def _sent(kind: str) -> Payload:
    phase, step = STEPS[kind]
    return step(_round(phase)).payload


@cache
def _round(phase: str) -> Federation:
    """Return a round in this phase; its second member has sealed nonsense for the first."""
    # What a stranger cannot sign, a participant can.
    found = Federation(Chain(verify=lambda transaction, key: True), count=5)
    deadlines = make_deadlines(found.chain.tip.next_height, step=100)
    found.terms = replace(found.terms, deadlines=deadlines)
    if phase in ("commit", "attest", "reveal", "aggregate"):
        found.play_to("share")
        victim, liar, *others = found.devices
        lie = found.share(liar, forgery=Forgery(victim=victim))
        found.chain.commit(lie, *[found.share(device) for device in (victim, *others)])
    found.play_to(phase)
    return found
