"""Federated rounds: learning together under rules that the chain enforces.

`records` is what the state holds of a round, `draw` makes the groups, `boxes` is how members of a
group hand each other shares of their secrets, and `progress` moves rounds on at the end of blocks.
The transactions are in `chain.kinds.rounds` and `chain.kinds.participation`; docs/spec/federated.md
is normative. No parameter of a model is ever looked at here: that is `ml_validator.federated`.
"""
