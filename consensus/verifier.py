"""Signatures that were found good are not verified again.

Certificates, justifications and resent messages show the same signatures many times over, and each
verification keeps the event loop from everything else.
"""

from typing import Final

from chain.crypto import verify
from chain.types import PublicKey, Signature

SIGNATURES_KEPT_MAX: Final = 64
"""Good signatures remembered for each key; the one that was shown longest ago goes first, and is
verified again if need be. So a member that signs much makes only its own forgotten."""


class Verifier:
    """`chain.crypto.verify`, with a memory; called like it, for the keys of one height's members.

    Notes
    -----
    The answer is always the one that `verify` gives: that depends on its arguments alone, and a
    signature is remembered under all of them. A bad one is never remembered, lest a flood of
    forgeries makes good ones forgotten.
    """

    def __init__(self) -> None:
        # The last shown stands last.
        self._good: dict[PublicKey, dict[tuple[bytes, bytes, Signature], bool]] = {}

    def __call__(
        self, public_key: PublicKey, tag: bytes, message: bytes, signature: Signature
    ) -> bool:
        """Tell whether `signature` over `message` under `tag` is by `public_key`."""
        good = self._good.setdefault(public_key, {})
        shown = (tag, message, signature)
        if not (good.pop(shown, False) or verify(public_key, tag, message, signature)):
            return False
        good[shown] = True
        if len(good) > SIGNATURES_KEPT_MAX:
            del good[next(iter(good))]
        return True

    def __len__(self) -> int:
        return sum(len(good) for good in self._good.values())
