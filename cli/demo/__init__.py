"""The demonstration: a network, devices honest and otherwise, and what becomes of them."""
