"""Files and sockets: as many as the node's bounds come to, or fewer clients."""

import resource

import pytest

from node.descriptors import (
    CONNECTIONS_MIN,
    DESCRIPTORS_KEPT,
    DESCRIPTORS_WANTED,
    connections_within,
    raise_descriptor_limit,
)


@pytest.mark.parametrize(
    ("soft", "hard", "after"),
    [
        (1_024, 524_288, DESCRIPTORS_WANTED),
        (1_024, resource.RLIM_INFINITY, DESCRIPTORS_WANTED),
        (256, 4_096, 4_096),
        (1_024, 1_024, 1_024),
        (20_000, 20_000, 20_000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    ],
)
def test_the_limit_is_raised_as_far_as_it_is_wanted_and_allowed(monkeypatch, soft, hard, after):
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda what, both: limits.append(both))

    found = raise_descriptor_limit()

    assert limits[-1] == (after, hard)
    assert found == (after if 0 < after < DESCRIPTORS_WANTED else DESCRIPTORS_WANTED)


def test_clients_get_what_the_node_does_not_need():
    assert connections_within(DESCRIPTORS_WANTED, 1_000) == 1_000
    assert connections_within(1_024, 1_000) == 1_024 - DESCRIPTORS_KEPT
    assert connections_within(256, 1_000) == CONNECTIONS_MIN
