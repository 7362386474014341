"""A participant of federated rounds: what it remembers, what it does, and how it follows the chain.

`memory` is what must not be forgotten in the middle of a round, `participant` what is done in each
phase, `shard` how own data become an update, `follow` how a process goes from block to block.
docs/federated.md is for those who run one.
"""
