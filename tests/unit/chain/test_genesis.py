"""chain.genesis: the document that a chain starts from."""

import json
from dataclasses import replace

import pytest

from chain.errors import InvalidGenesis
from chain.genesis import (
    Genesis,
    genesis_header,
    genesis_miners,
    genesis_state,
    parse_genesis,
    render_genesis,
)
from chain.kinds.organisations import organisation_id
from chain.parameters import Parameters
from chain.records.organisations import ORGANISATION_TABLE
from chain.state import MemorySource, State, active_model_at, parameters_of
from tests.builders import MODEL, make_genesis, make_model, with_parameters


@pytest.fixture
def genesis():
    return make_genesis(organisations=("acme", "globex"), model=make_model())


def document(genesis):
    return json.loads(json.dumps(render_genesis(genesis)))


def test_a_document_comes_back_with_its_hash(genesis):
    again = parse_genesis(document(genesis))

    assert again == genesis
    assert again.hash == genesis.hash
    assert again.chain_id == f"test-{genesis.hash.hex()[:8]}"


def test_parameters_left_out_have_their_defaults(genesis):
    short = document(genesis)
    del short["parameters"]
    assert parse_genesis(short).parameters == Parameters()

    short["parameters"] = {"heartbeat_ms": 5_000}
    assert parse_genesis(short).parameters == with_parameters(heartbeat_ms=5_000)


def change(path, value):
    def apply(document):
        *parents, last = path
        for name in parents:
            document = document[name]
        document[last] = value

    return apply


@pytest.mark.parametrize(
    "apply",
    [
        change(["chain"], ""),
        change(["chain"], "a b"),
        change(["time_ms"], 0),
        change(["time_ms"], 1.5),
        change(["miners"], []),
        change(["miners", 0, "key"], "00" * 32),
        change(["miners", 0, "key"], "AB" * 32),
        change(["miners", 0, "node_key"], "00" * 32),
        change(["miners", 0, "port"], 0),
        change(["miners", 0, "host"], ""),
        change(["miners", 1, "name"], "miner-0"),
        change(["organisations", 1, "name"], "acme"),
        change(["organisations", 0, "registrar_key"], "02" + "ff" * 32),
        change(["organisations", 0, "limits"], "1"),
        change(["parameters", "heartbeat_ms"], 1),
        change(["parameters", "lifetime_floor_ms"], 1),
        change(["parameters", "round_timeout_ms"], 30_000),
        change(["parameters", "unknown"], 1),
        change(["parameters"], None),
        change(["model", "threshold_ppm"], 1_000_002),
        change(["unknown"], 1),
    ],
)
def test_documents_that_break_a_rule_are_refused(genesis, apply):
    broken = document(genesis)
    apply(broken)

    with pytest.raises(InvalidGenesis):
        parse_genesis(broken)


@pytest.mark.parametrize("field", ["key", "node_key"])
def test_two_miners_have_no_key_in_common(genesis, field):
    broken = document(genesis)
    broken["miners"][0][field] = broken["miners"][1][field]

    with pytest.raises(InvalidGenesis):
        parse_genesis(broken)


@pytest.mark.parametrize("value", [None, [], "genesis", 1])
def test_what_is_no_document_is_refused(value):
    with pytest.raises(InvalidGenesis):
        parse_genesis(value)


@pytest.mark.attack("B14")
def test_every_part_of_the_document_changes_the_hash(genesis):
    variants: list[Genesis] = [
        genesis,
        replace(genesis, chain="other"),
        replace(genesis, time_ms=genesis.time_ms + 1),
        replace(genesis, miners=genesis.miners[:3]),
        replace(genesis, miners=genesis.miners[::-1]),
        replace(genesis, organisations=()),
        replace(genesis, parameters=with_parameters(heartbeat_ms=5_000)),
        replace(genesis, model=None),
    ]

    assert len({variant.hash for variant in variants}) == len(variants)


def test_the_first_state_holds_what_the_document_says(genesis):
    state = State(MemorySource(genesis_state(genesis)))

    assert parameters_of(state) == genesis.parameters
    assert active_model_at(state, 0) is None
    assert active_model_at(state, 1) == MODEL
    record = state.get(ORGANISATION_TABLE, organisation_id("globex"))
    assert record is not None
    assert record.active


def test_the_first_header_names_the_first_miners(genesis):
    state = State(MemorySource(genesis_state(genesis)))
    header = genesis_header(genesis, state.root)
    miners = genesis_miners(genesis)

    assert (header.height, header.time_ms) == (0, genesis.time_ms)
    assert header.miner_set_hash == header.next_miner_set_hash == miners.hash
    assert header.state_root == state.root
    assert [member.id for member in miners] == sorted(member.id for member in miners)
