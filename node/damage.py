"""Telling of entries of the store that are damaged, where the node can do without them.

Other nodes hold an old block too, so whoever asked for it is answered as if it were not held here.
What consensus itself needs is never done without: damage there ends the node.
"""

import structlog

from node.errors import DamagedEntry
from node.metrics import Metrics

log = structlog.get_logger(__name__)


def report_damage(error: DamagedEntry, metrics: Metrics) -> None:
    """Tell the operator which entry cannot be read; may be called from any thread."""
    metrics.entry_damaged()
    log.error(
        "a stored entry is damaged; stop the node and run securenet db verify",
        entry=error.entry,
        key=error.key.hex(),
        reason=error.cause,
    )
