"""The schemas of fields that many values have."""

import re
from typing import Final

from chain.crypto import ED25519_KEY_SIZE, P256_KEY_SIZE
from chain.schema import Blob, Integer, Text
from chain.types import DIGEST_SIZE, HEIGHT_MAX, ROUND_MAX, TIME_MS_MAX

DIGEST: Final = Blob(DIGEST_SIZE)
ADDRESS: Final = Blob(DIGEST_SIZE)
HEIGHT: Final = Integer(0, HEIGHT_MAX)
ROUND: Final = Integer(0, ROUND_MAX)
TIME_MS: Final = Integer(0, TIME_MS_MAX)
UNTIL_MS: Final = Integer(0, 2 * TIME_MS_MAX)
"""A time that was reckoned from another one."""
NAME: Final = Text(64, pattern=re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"))
"""Form of the names of readings, devices, organisations, miners, models and rounds."""
HOST: Final = Text(253, pattern=re.compile(r"[A-Za-z0-9.:_-]+"))
"""Name or address of a host; nothing that a log or a page could stumble over."""
MINER_KEY: Final = Blob(ED25519_KEY_SIZE)
ANY_KEY: Final = Blob(ED25519_KEY_SIZE, P256_KEY_SIZE)
