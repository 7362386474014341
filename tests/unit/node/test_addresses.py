"""Which addresses are this machine, and which count as one client."""

import pytest

from node.addresses import accountable, is_loopback


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("", False),
    ],
)
def test_what_only_this_machine_reaches(host, local):
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "localhost", False),
    ],
)
def test_what_is_cheap_to_have_many_of_counts_as_one(one, other, is_same):
    assert (accountable(one) == accountable(other)) is is_same
