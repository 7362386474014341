"""Federated learning by Flower, anchored on the chain.

A consortium that runs Flower keeps its ServerApp and its ClientApps; each of Flower's rounds
becomes a federated round on the chain, in the audit mode. `mod` goes around a ClientApp: it commits
the digest of an update before the update leaves. `strategy` takes the place of FedAvg: it uses what
is on the chain and nothing else, and the aggregate is the one on which the miners agree.

Those two alone import Flower, which needs an environment of its own (``make flower``). `models` is
about a model's arrays as one list of numbers, `anchoring` is the rule of what counts, `member` and
`coordinator` are the two sides' ways to the chain. docs/federated.md, *With Flower*.
"""
