"""One suite for each port of :mod:`node.ports`, run against every implementation of it."""
