"""Groups are drawn from a block's hash: all of a size, none chosen by who is in it."""

from chain.federated.draw import draw_groups
from chain.types import Address
from tests.builders import digest_of

DEVICES = [Address(digest_of(f"device {number}")) for number in range(25)]


def draw(seed="block 7", devices=DEVICES, group_size=4):
    return draw_groups(
        devices, group_size=group_size, round_id=digest_of("round"), seed=digest_of(seed)
    )


def sizes(groups):
    found = list(groups.values())
    return sorted(found.count(group) for group in set(found))


def test_there_are_as_many_groups_of_the_size_as_there_can_be():
    assert sizes(draw()) == [4, 4, 4, 4, 4, 5]
    assert sizes(draw(devices=DEVICES[:7])) == [7]
    assert sizes(draw(group_size=1)) == [1] * 25


def test_the_order_in_which_devices_are_named_does_not_matter():
    assert draw(devices=DEVICES[::-1]) == draw()


def test_another_block_draws_other_groups():
    assert draw(seed="block 8") != draw()
