"""chain.state: the committed state and overlays on it."""

from importlib import import_module
from pkgutil import walk_packages

import pytest

import chain
from chain import state as state_module
from chain.errors import DecodeError
from chain.genesis import genesis_state
from chain.records.devices import DEVICE_TABLE
from chain.records.miners import MINER_TABLE
from chain.records.models import ACTIVE_MODELS
from chain.records.organisations import ORGANISATION_TABLE, OrganisationRecord
from chain.state import MemorySource, Overlay, State
from chain.table import Table, height_key
from tests.builders import Chain, digest_of, key_of, make_genesis
from tests.tables import TABLES


def organisation(name):
    return OrganisationRecord(
        name=name,
        registrar_key=key_of(name).public,
        limits=(),
        active=True,
        device_count=0,
        model_count=0,
    )


@pytest.fixture
def state():
    return State(MemorySource(genesis_state(make_genesis())))


ID = digest_of("new")


def test_every_table_of_the_chain_is_listed():
    names = [module.name for module in walk_packages(chain.__path__, "chain.")]
    values = [value for name in names for value in vars(import_module(name)).values()]
    assert {id(value) for value in values if isinstance(value, Table)} == set(map(id, TABLES))


def test_no_prefix_of_a_table_is_the_beginning_of_another():
    prefixes = [table.prefix for table in TABLES]
    for prefix in prefixes:
        assert sum(other.startswith(prefix) for other in prefixes) == 1


def test_heights_sort_as_numbers():
    heights = [0, 1, 255, 256, 2**40]

    assert sorted(heights, key=height_key) == heights


def test_an_overlay_shows_its_changes_and_touches_nothing_below(state):
    root = state.root
    below = Overlay(state)
    above = Overlay(below)
    above.put(ORGANISATION_TABLE, organisation("new"), ID)

    assert above.get(ORGANISATION_TABLE, ID) == organisation("new")
    assert below.get(ORGANISATION_TABLE, ID) is None
    below.merge(above)
    assert below.get(ORGANISATION_TABLE, ID) == organisation("new")
    assert state.get(ORGANISATION_TABLE, ID) is None
    assert state.root == root


def test_a_removed_record_is_gone_for_what_lies_above(state):
    known = next(iter(state.scan(MINER_TABLE)))[0]
    overlay = Overlay(state)
    overlay.remove(MINER_TABLE, known)

    assert Overlay(overlay).get(MINER_TABLE, known) is None
    assert overlay.delta() == {MINER_TABLE.key(known): None}


def test_removing_what_is_not_there_is_no_change(state):
    overlay = Overlay(state)
    overlay.remove_if_present(MINER_TABLE, ID)

    assert overlay.delta() == {}


def test_the_committed_state_follows_its_source(state):
    source = MemorySource(genesis_state(make_genesis()))
    state = State(source)
    assert state.get(ORGANISATION_TABLE, ID) is None, "and this is remembered"
    overlay = Overlay(state)
    overlay.put(ORGANISATION_TABLE, organisation("new"), ID)
    delta = overlay.delta()

    source.apply(delta)
    state.advance(delta, state.tree.updated(delta))

    assert state.get(ORGANISATION_TABLE, ID) == organisation("new")
    assert State(source).root == state.root


def test_records_in_memory_are_bounded(state, monkeypatch):
    monkeypatch.setattr(state_module, "RECORD_CACHE_SIZE", 10)
    for number in range(100):
        state.get(DEVICE_TABLE, digest_of(str(number)))

    assert len(state._cache) <= 10


def test_a_table_is_scanned_in_the_order_of_its_keys():
    chain = Chain()
    ids = sorted(chain.register(f"device-{number}").id for number in range(5))

    assert [key for key, _ in chain.state.scan(DEVICE_TABLE)] == ids
    assert [key for key, _ in chain.state.scan(DEVICE_TABLE, after=ids[2])] == ids[3:]
    assert list(chain.state.scan(ACTIVE_MODELS)) == []


def test_records_are_proved_under_the_root():
    chain = Chain()
    device = chain.register()
    value = DEVICE_TABLE.encode(chain.device(device))

    chain.state.prove(DEVICE_TABLE, device.id).verify(
        root=chain.tip.header.state_root, key=DEVICE_TABLE.key(device.id), value=value
    )
    chain.state.prove(DEVICE_TABLE, ID).verify(
        root=chain.tip.header.state_root, key=DEVICE_TABLE.key(ID), value=None
    )


def test_a_damaged_record_is_an_error_and_no_guess():
    with pytest.raises(DecodeError):
        DEVICE_TABLE.decode(b"\x90")
