"""What the verdicts on the chain say of the committed flows, against the labels."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chain.miners import quorum, weak_quorum
from cli.client import Client, Document
from cli.errors import CliError, TimedOut
from cli.load.watch import Commit
from node.clock import SystemClock

PATIENCE_S: Final = 60.0
"""How long to wait for a further verdict."""
VERDICTS_MAX: Final = 100_000
_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Counts of committed flows."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def precision(self) -> float:
        """Attacks among what is found anomalous; 0 where nothing is."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the attacks that is found anomalous."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def false_positive_rate(self) -> float:
        """Share of the normal flows that is found anomalous."""
        return _share(self.false_positives, self.false_positives + self.true_negatives)


async def wait_verdicts(
    client: Client, heights: set[int], miners: int
) -> dict[int, list[Document]]:
    """Return the verdicts on each of `heights`, once each has those of a quorum.

    Raises
    ------
    TimedOut
        No further verdict has come for `PATIENCE_S`.
    """
    clock = SystemClock()
    seen, since = -1, clock.monotonic_ns()
    while True:
        by_height: dict[int, list[Document]] = {height: [] for height in heights}
        for verdict in await client.pages("/v1/verdicts", limit=VERDICTS_MAX):
            if verdict["judged_height"] in by_height:
                by_height[verdict["judged_height"]].append(verdict)
        missing = [h for h, verdicts in by_height.items() if len(verdicts) < quorum(miners)]
        if not missing:
            return by_height
        count = sum(map(len, by_height.values()))
        now = clock.monotonic_ns()
        if count > seen:
            seen, since = count, now
        elif now - since > PATIENCE_S * 1e9:
            raise TimedOut(
                f"{len(missing)} of {len(heights)} blocks lack verdicts of a quorum, and none came "
                f"for {PATIENCE_S:g} s",
                "see the nodes' logs for what their detectors say",
            )
        await asyncio.sleep(_POLL_S)


def judge(
    commits: Mapping[str, Commit],
    labels: Mapping[str, bool],
    verdicts: Mapping[int, list[Document]],
    miners: int,
) -> Judgement:
    """Compare verdicts and labels.

    A flow counts as anomalous when a weak quorum of verdicts puts its score at the threshold or
    above, as the chain itself counts it.

    Parameters
    ----------
    commits : mapping of str to Commit
        Of the flows, by transaction id.
    labels : mapping of str to bool
        Whether each is part of an attack.

    Raises
    ------
    CliError
        A verdict does not have one score for each flow of its block.
    """
    by_height: dict[int, list[tuple[int, str]]] = {}
    for id, commit in commits.items():
        by_height.setdefault(commit.height, []).append((commit.index, id))
    counts = {(said, true): 0 for said in (False, True) for true in (False, True)}
    for height, flows in by_height.items():
        flows.sort()
        votes = [0] * len(flows)
        for verdict in verdicts[height]:
            scores = verdict["scores_ppm"]
            if len(scores) != len(flows):
                raise CliError(
                    f"a verdict on block {height} has {len(scores)} scores for {len(flows)} flows",
                    "see the nodes' logs",
                )
            for place, score in enumerate(scores):
                votes[place] += score >= verdict["threshold_ppm"]
        for (_, id), count in zip(flows, votes, strict=True):
            counts[count >= weak_quorum(miners), labels[id]] += 1
    return Judgement(
        true_positives=counts[True, True],
        false_positives=counts[True, False],
        true_negatives=counts[False, False],
        false_negatives=counts[False, True],
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
