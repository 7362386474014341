"""Proofs of ranges of the state: complete, and nothing else passes."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chain import state_range
from chain.errors import DecodeError, InvalidProof
from chain.state_range import (
    FIRST_PATH,
    LAST_PATH,
    STATE_PIECE,
    STEPS_MAX,
    StateEntry,
    StatePiece,
    cut_state,
    decode_piece,
    next_path,
    prove_range,
)
from chain.state_tree import StateTree, path_of
from chain.types import Digest
from tests.strategies import digests, mutated

keys = st.integers(0, 60).map(lambda number: b"key %d" % number)
maps = st.dictionaries(keys, st.binary(min_size=1, max_size=3), max_size=40)
paths = keys.map(path_of) | digests | st.sampled_from([FIRST_PATH, LAST_PATH])


def piece_of(entries, first, last):
    """Return the honest piece of a range."""
    inside = sorted((path_of(key), key) for key in entries if first <= path_of(key) <= last)
    return StatePiece(
        first=Digest(first),
        last=Digest(last),
        entries=tuple(StateEntry(key=key, value=entries[key]) for _, key in inside),
        steps=prove_range(StateTree().updated(entries), Digest(first), Digest(last)),
    )


@given(maps, paths, paths)
def test_every_range_has_a_proof(entries, one, other):
    first, last = sorted((one, other))
    piece = piece_of(entries, first, last)

    piece.verify(StateTree().updated(entries).root)
    assert len(piece.steps) <= STEPS_MAX
    data = STATE_PIECE.encode(piece)
    assert decode_piece(data) == piece


@given(maps, maps, st.lists(paths, min_size=4, max_size=4))
def test_what_is_proven_is_the_whole_range_and_nothing_else(entries, others, bounds):
    """Entries of one map, or range of one question, under the proof of another: none passes."""
    first, last = sorted(bounds[:2])
    honest = piece_of(entries, first, last)
    false = replace(piece_of(others, *sorted(bounds[2:])), first=honest.first, last=honest.last)
    root = StateTree().updated(entries).root
    for candidate in (false, replace(honest, entries=false.entries)):
        try:
            candidate.verify(root)
        except InvalidProof:
            continue
        assert candidate.entries == honest.entries


def changes(piece, data):
    """Return a piece that differs in one thing."""
    entries, steps = list(piece.entries), list(piece.steps)
    what = data.draw(
        st.sampled_from(["drop", "double", "add", "key", "value", "swap", "first", "last", "step"])
    )
    where = data.draw(st.integers(0, max(0, len(entries) - 1)))
    if what in ("first", "last"):
        return replace(piece, **{what: Digest(data.draw(paths))})
    if what == "step":
        assume(steps)
        at = data.draw(st.integers(0, len(steps) - 1))
        how = data.draw(st.sampled_from(["drop", "double", "mutate", "mark"]))
        if how == "drop":
            del steps[at]
        elif how == "double":
            steps.insert(at, steps[at])
        elif how == "mutate":
            steps[at] = data.draw(mutated(steps[at])) if steps[at] else b"x"
        else:
            steps[at] = data.draw(st.sampled_from([b"", b"l", b"b", bytes(32), bytes(64)]))
        return replace(piece, steps=tuple(steps))
    if what == "add":
        entries.append(StateEntry(key=data.draw(keys), value=b"new"))
        entries.sort(key=lambda entry: path_of(entry.key))
    else:
        assume(entries)
        entry = entries[where]
        if what == "drop":
            del entries[where]
        elif what == "double":
            entries.insert(where, entry)
        elif what == "key":
            entries[where] = replace(entry, key=data.draw(mutated(entry.key)))
        elif what == "value":
            entries[where] = replace(entry, value=data.draw(mutated(entry.value)))
        else:
            entries.reverse()
    return replace(piece, entries=tuple(entries))


@pytest.mark.attack("D9")
@settings(max_examples=400)
@given(maps, paths, paths, st.data())
def test_no_changed_piece_verifies(entries, one, other, data):
    piece = piece_of(entries, *sorted((one, other)))
    changed = changes(piece, data)
    assume(changed != piece)
    root = StateTree().updated(entries).root
    try:
        changed.verify(root)
    except InvalidProof:
        return
    # Another range of the same entries may have the same proof: it is as true.
    assert changed == replace(piece_of(entries, changed.first, changed.last), steps=changed.steps)


@given(maps.filter(len), st.integers(1, 12), st.integers(1, 5))
def test_the_pieces_of_a_state_are_all_of_it(entries, size, count):
    tree = StateTree().updated(entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_range, "PIECE_SIZE", size)
        patch.setattr(state_range, "PIECE_ENTRIES_MAX", count)
        pieces = list(cut_state(tree, entries.items()))
        assert all(piece.is_full for piece in pieces)

    for piece in pieces:
        piece.verify(tree.root)
    assert pieces[0].first == FIRST_PATH
    assert pieces[-1].last == LAST_PATH
    assert all(next_path(a.last) == b.first for a, b in pairwise(pieces))
    found = [(entry.key, entry.value) for piece in pieces for entry in piece.entries]
    assert dict(found) == entries
    assert len(found) == len(entries)


@given(st.binary(max_size=400))
def test_no_bytes_break_the_decoder(data):
    try:
        piece = decode_piece(data)
        piece.verify(Digest(bytes(32)))
    except (DecodeError, InvalidProof):
        pass


def test_a_false_proof_of_the_greatest_depth_ends():
    steps = (b"b",) * STEPS_MAX
    piece = StatePiece(first=path_of(b"a"), last=path_of(b"a"), entries=(), steps=steps)

    with pytest.raises(InvalidProof):
        piece.verify(Digest(bytes(32)))
