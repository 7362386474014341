"""A signer in a process of its own, and the way from a node to it."""
