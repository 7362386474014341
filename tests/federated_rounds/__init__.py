"""Federated rounds as a consortium lives them, run by hand: ``python -m tests.federated_rounds``.

Four miners and ten participants, all processes of their own, some of which are killed or lie.
`tests/e2e/test_federated.py` runs the same on less.
"""
