"""FedAvg of Flower, over what the chain has and nothing else.

::

    strategy = AnchoredFedAvg(Coordinator(rpc=…, key=…, plan=RoundPlan(name="…")))
    strategy.start(grid=grid, initial_arrays=…, num_rounds=…)
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from logging import INFO, WARNING
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.app.exception import AppExitException
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy.strategy_utils import validate_message_reply_consistency

from chain.types import Digest
from cli.federated.flower.anchoring import ROUND, UPDATE, Offer, aggregated, judge
from cli.federated.flower.coordinator import Coordinator
from cli.federated.flower.models import Arrays, flattened, moved
from ml_validator.federated.fixed_point import to_floats


class AnchoredFedAvg(FedAvg):
    """Each of Flower's rounds is a federated round on the chain, in the audit mode.

    The aggregate is the one on which the miners agree, by the rule and the weights of the plan;
    what nodes say of the number of their examples weighs metrics and nothing else. Where the chain
    comes to no aggregate the model stays as it is.

    Parameters
    ----------
    coordinator : Coordinator
        Opens the rounds.
    options
        Those of FedAvg. Whoever is invited and not sampled lets the others wait for its deadline,
        so leave ``fraction_train`` at 1.

    Attributes
    ----------
    refused : Counter of str
        How many replies did not count so far, by the code of docs/federated.md.
    """

    def __init__(self, coordinator: Coordinator, **options: Any) -> None:
        super().__init__(**options)
        self.refused: Counter[str] = Counter()
        self._coordinator = coordinator
        self._open: tuple[Digest, Arrays] | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Open a federated round from the model, once there are nodes to train it."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if not messages:
            return messages
        base = {name: array.numpy() for name, array in arrays.items()}
        round_id = self._coordinator.open_round(server_round, flattened(base))
        log(INFO, "configure_train: opened federated round %s", round_id.hex())
        self._open = (round_id, base)
        for message in messages:
            message.content[self.configrecord_key][ROUND] = round_id.hex()
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the model moved by the aggregate of the miners, computed here as well.

        Raises
        ------
        CliError
            The node does not answer, or the miners have agreed on another aggregate.
        """
        if self._open is None:
            return None, None
        (round_id, base), self._open = self._open, None
        by_node = {str(reply.metadata.src_node_id): reply for reply in replies}
        offers = [Offer(sender=node, update=_update_of(reply)) for node, reply in by_node.items()]
        found = self._coordinator.outcome(round_id)
        judged = judge(found, offers)
        for refusal in judged.refused:
            self.refused[refusal.code] += 1
            log(WARNING, "aggregate_train: refused node %s: %s", refusal.sender, refusal.code)
        if found.aggregate is None:
            log(WARNING, "federated round %s is %s: %s", round_id.hex(), found.phase, found.reason)
            return None, None
        updates = self._coordinator.complete(found, judged.updates)
        total = aggregated(round_id, found, updates)
        log(INFO, "aggregate_train: %s, on the chain", found.aggregate.hex())
        model = moved(base, to_floats(total, fraction_bits=found.terms.scale_bits))
        metrics = self._metrics([by_node[sender] for sender in judged.accepted])
        return ArrayRecord({name: Array(array) for name, array in model.items()}), metrics

    def _metrics(self, replies: Sequence[Message]) -> MetricRecord | None:
        """Return what the nodes say of themselves, on average; None where they do not agree how."""
        contents = [reply.content for reply in replies]
        try:
            validate_message_reply_consistency(
                contents, self.weighted_by_key, check_arrayrecord=False
            )
            return self.train_metrics_aggr_fn(contents, self.weighted_by_key)
        except (AppExitException, ArithmeticError, LookupError, TypeError, ValueError) as error:
            log(WARNING, "aggregate_train: no metrics: %s", error)
            return None


def _update_of(reply: Message) -> bytes | None:
    """Return the update of a reply, untouched; None where there is none."""
    if reply.has_error():
        return None
    record = reply.content.array_records.get(UPDATE)
    array = None if record is None else record.get(UPDATE)
    return None if array is None else array.data
