"""Dialling, scores and the door, on a clock that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.crypto import signing_key
from chain.errors import InvalidKey
from chain.types import PublicKey
from node.p2p.errors import Reason
from node.p2p.limits import P2PLimits
from node.p2p.peers import PEERS_MAX, Doorkeeper, PeerBook, PeerDirectory, PeerEntry
from tests.p2p import ManualClock, node_key, node_keys
from tests.simulation.random_source import SeededRandom

LIMITS = P2PLimits()
ALICE, BOB, CAROL = node_keys(3)
PORT = 26756


@pytest.fixture
def clock():
    return ManualClock()


def make_book(clock, *entries: PeerEntry, seed: int = 1) -> PeerBook:
    book = PeerBook(clock=clock, random=SeededRandom(seed), limits=LIMITS)
    book.update(PeerDirectory(entries))
    return book


def pause_of(book: PeerBook) -> int:
    pause_ms = book.next_due_ms()
    assert pause_ms is not None
    return pause_ms


# --- directory ------------------------------------------------------------------------------------


def test_a_directory_finds_entries_by_id_and_by_key():
    directory = PeerDirectory((ALICE.entry(), BOB.entry(PORT)))

    assert directory.of_id(BOB.node_id) == BOB.entry(PORT)
    assert directory.of_key(ALICE.public_key) == ALICE.entry()
    assert directory.of_id(CAROL.node_id) is None
    assert directory.of_key(CAROL.public_key) is None
    assert list(directory.without(ALICE.node_id)) == [BOB.entry(PORT)]


def test_a_node_keeps_its_id_with_a_new_key():
    rotated = PeerEntry(node_id=ALICE.node_id, public_key=CAROL.public_key)

    assert PeerDirectory((rotated,)).of_key(CAROL.public_key) == rotated


@pytest.mark.parametrize(
    "twin",
    [
        PeerEntry(node_id=ALICE.node_id, public_key=BOB.public_key),
        PeerEntry(node_id=BOB.node_id, public_key=ALICE.public_key),
    ],
)
def test_ids_and_keys_are_unique(twin):
    with pytest.raises(ValueError, match="share"):
        PeerDirectory((ALICE.entry(), twin))


def test_a_directory_has_a_bound():
    entries = tuple(node_key(index).entry() for index in range(1, PEERS_MAX + 2))

    assert len(list(PeerDirectory(entries[:-1]))) == PEERS_MAX
    with pytest.raises(ValueError, match="allowed"):
        PeerDirectory(entries)


def test_a_key_that_anybody_can_sign_for_is_refused():
    with pytest.raises(InvalidKey):
        PeerEntry(node_id=ALICE.node_id, public_key=PublicKey(b"\x01" + bytes(31)))


def test_a_p256_key_is_no_node_key():
    with pytest.raises(ValueError, match="Ed25519"):
        PeerEntry(node_id=ALICE.node_id, public_key=signing_key("p256", b"\x01" * 32).public)


# --- dialling -------------------------------------------------------------------------------------


def test_a_new_peer_is_due_at_once_and_only_once(clock):
    book = make_book(clock, ALICE.entry(PORT), BOB.entry())

    assert book.take_due() == [ALICE.entry(PORT)]
    assert book.take_due() == []
    assert book.next_due_ms() is None


def test_pauses_double_up_to_a_maximum_and_stay_in_their_upper_half(clock):
    book = make_book(clock, ALICE.entry(PORT))
    for attempt in range(40):
        assert book.take_due()
        book.on_dial_ended(ALICE.node_id, Reason.UNREACHABLE)
        pause_ms = pause_of(book)
        longest_ms = min(LIMITS.dial_backoff_ms * 2**attempt, LIMITS.dial_backoff_ms_max)
        assert longest_ms // 2 <= pause_ms <= longest_ms
        clock.advance_ms(pause_ms - 1)
        assert not book.take_due()
        clock.advance_ms(1)


def test_nodes_that_lost_each_other_at_once_come_back_at_different_times(clock):
    pauses = set()
    for seed in range(10):
        book = make_book(clock, ALICE.entry(PORT), seed=seed)
        book.take_due()
        book.on_dial_ended(ALICE.node_id, Reason.UNREACHABLE)
        pauses.add(pause_of(book))

    assert len(pauses) > 5


def test_a_connected_peer_is_not_dialled_whoever_dialled(clock):
    book = make_book(clock, ALICE.entry(PORT))
    book.on_connected(ALICE.node_id)

    assert book.take_due() == []
    assert book.next_due_ms() is None


def test_a_long_session_ends_the_back_off_and_short_ones_do_not(clock):
    book = make_book(clock, ALICE.entry(PORT))
    for _ in range(6):
        book.on_connected(ALICE.node_id)
        book.on_disconnected(ALICE.node_id)
    assert pause_of(book) >= LIMITS.dial_backoff_ms * 16

    book.on_connected(ALICE.node_id)
    clock.advance_ms(LIMITS.stable_session_ms)
    book.on_disconnected(ALICE.node_id)

    assert pause_of(book) <= LIMITS.dial_backoff_ms


def test_a_peer_that_moved_is_due_at_once(clock):
    book = make_book(clock, ALICE.entry(PORT))
    book.take_due()
    book.on_dial_ended(ALICE.node_id, Reason.UNREACHABLE)

    book.update(PeerDirectory((ALICE.entry(PORT + 1),)))

    assert book.take_due() == [ALICE.entry(PORT + 1)]


def test_only_another_trouble_than_last_time_is_news(clock):
    book = make_book(clock, ALICE.entry(PORT))
    troubles = [Reason.UNREACHABLE, Reason.UNREACHABLE, Reason.TLS, None, Reason.TLS]

    news = [book.on_dial_ended(ALICE.node_id, trouble) for trouble in troubles]

    assert news == [True, False, True, False, True]


def test_a_peer_that_left_the_directory_is_no_longer_anything(clock):
    book = make_book(clock, ALICE.entry(PORT))
    book.take_due()
    book.update(PeerDirectory())

    assert not book.on_dial_ended(ALICE.node_id, Reason.UNREACHABLE)
    book.on_connected(ALICE.node_id)
    book.on_disconnected(ALICE.node_id)
    assert not book.penalise(ALICE.node_id, 1000)
    assert book.next_due_ms() is None


# --- scores ---------------------------------------------------------------------------------------


def test_points_add_up_to_a_ban(clock):
    book = make_book(clock, ALICE.entry(PORT))

    assert not book.penalise(ALICE.node_id, LIMITS.score_limit - 1)
    assert not book.is_banned(ALICE.node_id)
    assert book.penalise(ALICE.node_id, 1)
    assert book.is_banned(ALICE.node_id)


def test_a_point_is_forgiven_each_second(clock):
    book = make_book(clock, ALICE.entry(PORT))
    for _ in range(10 * LIMITS.score_limit):
        assert not book.penalise(ALICE.node_id, 1)
        clock.advance_ms(1000)


def test_a_peer_that_comes_and_goes_all_the_time_is_banned(clock):
    book = make_book(clock, ALICE.entry())
    sessions = 0
    banned = False
    while not banned:
        book.on_connected(ALICE.node_id)
        clock.advance_ms(50)
        banned = book.on_disconnected(ALICE.node_id)
        sessions += 1

    assert 100 <= sessions < 110
    assert book.is_banned(ALICE.node_id)


def test_a_peer_that_restarts_every_second_is_not_banned(clock):
    book = make_book(clock, ALICE.entry())
    for _ in range(1000):
        book.on_connected(ALICE.node_id)
        clock.advance_ms(1000)
        assert not book.on_disconnected(ALICE.node_id)


def test_a_banned_peer_is_not_dialled_before_the_ban_ends(clock):
    book = make_book(clock, ALICE.entry(PORT), BOB.entry(PORT))
    book.penalise(ALICE.node_id, LIMITS.score_limit)

    assert book.take_due() == [BOB.entry(PORT)]
    clock.advance_ms(LIMITS.ban_ms)
    assert not book.is_banned(ALICE.node_id)
    assert book.take_due() == [ALICE.entry(PORT)]


def ban_length_ms(book, clock) -> int:
    assert book.penalise(ALICE.node_id, LIMITS.score_limit)
    length_ms = 0
    while book.is_banned(ALICE.node_id):
        clock.advance_ms(1000)
        length_ms += 1000
    return length_ms


def test_bans_double_up_to_a_maximum_and_are_forgotten_in_the_end(clock):
    book = make_book(clock, ALICE.entry(PORT))

    lengths_ms = [ban_length_ms(book, clock) for _ in range(6)]
    clock.advance_ms(LIMITS.ban_memory_ms + 1000)

    assert lengths_ms == [60_000, 120_000, 240_000, 480_000, 600_000, 600_000]
    assert ban_length_ms(book, clock) == 60_000


def test_penalties_that_come_late_do_not_lengthen_a_ban(clock):
    book = make_book(clock, ALICE.entry(PORT))
    book.penalise(ALICE.node_id, LIMITS.score_limit)

    assert not book.penalise(ALICE.node_id, LIMITS.score_limit)
    clock.advance_ms(LIMITS.ban_ms)
    assert not book.is_banned(ALICE.node_id)


def test_a_changed_directory_lifts_no_ban(clock):
    book = make_book(clock, ALICE.entry(PORT))
    book.penalise(ALICE.node_id, LIMITS.score_limit)

    book.update(PeerDirectory((ALICE.entry(PORT + 1), BOB.entry())))

    assert book.is_banned(ALICE.node_id)
    assert book.take_due() == []


# --- the door -------------------------------------------------------------------------------------


def test_strangers_of_one_address_are_bounded(clock):
    door = Doorkeeper(clock=clock, limits=LIMITS)
    for _ in range(LIMITS.pending_per_address_max):
        assert door.enter("192.0.2.1") is None

    assert door.enter("192.0.2.1") is Reason.TOO_MANY_FROM_ADDRESS
    assert door.enter("192.0.2.2") is None
    door.leave("192.0.2.1")
    assert door.enter("192.0.2.1") is None


def test_strangers_in_total_are_bounded(clock):
    door = Doorkeeper(clock=clock, limits=LIMITS)
    for number in range(LIMITS.pending_max):
        assert door.enter(f"192.0.2.{number}") is None

    assert door.enter("198.51.100.1") is Reason.TOO_MANY
    assert door.pending_count == LIMITS.pending_max


def test_the_rate_of_one_address_is_bounded(clock):
    door = Doorkeeper(clock=clock, limits=LIMITS)
    for _ in range(LIMITS.accepts_burst):
        assert door.enter("192.0.2.1") is None
        door.leave("192.0.2.1")

    assert door.enter("192.0.2.1") is Reason.TOO_FREQUENT
    clock.advance_ms(1000 // LIMITS.accepts_per_second)
    assert door.enter("192.0.2.1") is None


def test_the_addresses_of_one_ipv6_site_are_one_address(clock):
    door = Doorkeeper(clock=clock, limits=LIMITS)
    for number in range(LIMITS.pending_per_address_max):
        assert door.enter(f"2001:db8::{number:x}") is None

    assert door.enter("2001:db8::ffff") is Reason.TOO_MANY_FROM_ADDRESS
    assert door.enter("2001:db8:0:1::1") is None


def test_an_ipv4_address_stays_itself_on_an_ipv6_socket(clock):
    door = Doorkeeper(clock=clock, limits=LIMITS)
    for _ in range(LIMITS.pending_per_address_max):
        assert door.enter("::ffff:192.0.2.1") is None

    assert door.enter("192.0.2.1") is Reason.TOO_MANY_FROM_ADDRESS
    assert door.enter("::ffff:192.0.2.2") is None


def test_a_scoped_address_is_understood(clock):
    assert Doorkeeper(clock=clock, limits=LIMITS).enter("fe80::1%eth0") is None


@given(st.lists(st.integers(0, 2**32 - 1), max_size=300))
def test_what_is_remembered_of_addresses_is_bounded(numbers):
    limits = P2PLimits(addresses_max=10)
    door = Doorkeeper(clock=ManualClock(), limits=limits)
    for number in numbers:
        host = ".".join(map(str, number.to_bytes(4, "big")))
        if door.enter(host) is None:
            door.leave(host)
        assert len(door._rates) <= 10

    assert door._pending == {}
    assert door.pending_count == 0
