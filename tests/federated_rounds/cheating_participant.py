"""A participant that hands a false share to the first of its group: the usual arguments."""

from dataclasses import replace
from typing import Any

from cli.federated.chain_port import ChainPort
from cli.main import main

_send = ChainPort.send


async def _cheat(self: ChainPort, kind: str, body: Any) -> None:
    if kind == "round.share":
        body = replace(body, boxes=bytes((body.boxes[0] ^ 1,)) + body.boxes[1:])
    await _send(self, kind, body)


if __name__ == "__main__":
    ChainPort.send = _cheat  # type: ignore[method-assign]  # it is what this program is for
    main()
