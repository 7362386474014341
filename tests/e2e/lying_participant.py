"""A participant that reveals false shares: ``python lying_participant.py fl join …``."""

from dataclasses import replace
from typing import Any

from cli.federated.chain_port import ChainPort
from cli.main import main

_send = ChainPort.send


async def _lie(self: ChainPort, kind: str, body: Any) -> None:
    if kind == "update.reveal":
        shares = [None if share is None else bytes(len(share)) for share in body.shares]
        body = replace(body, shares=tuple(shares))
    await _send(self, kind, body)


if __name__ == "__main__":
    ChainPort.send = _lie  # type: ignore[method-assign]  # it is what this program is for
    main()
