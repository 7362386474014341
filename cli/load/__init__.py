"""Loading a network with signed transactions and watching them commit; for demo and bench."""
