"""Keys by prefix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.storage.kv import prefix_end


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=4))
def test_exactly_the_keys_with_the_prefix_lie_between_it_and_its_end(prefix: bytes, key: bytes):
    if not prefix.rstrip(b"\xff"):
        return

    assert (prefix <= key < prefix_end(prefix)) == key.startswith(prefix)


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a\xff\xff", b"b"), (b"\x00", b"\x01"), (b"a/", b"a0")]
)
def test_the_end_is_the_smallest_key_above(prefix: bytes, end: bytes):
    assert prefix_end(prefix) == end


@pytest.mark.parametrize("prefix", [b"", b"\xff", b"\xff\xff"])
def test_a_prefix_without_an_end_is_refused(prefix: bytes):
    with pytest.raises(ValueError, match="no key lies above"):
        prefix_end(prefix)
