"""organisation.change, param.change, model.activate: what the miners decide by vote."""

import pytest

from chain.errors import Rejection
from chain.kinds.models import ACTIVATION_DELAY, ModelActivate
from chain.kinds.organisations import OrganisationChange, organisation_id
from chain.kinds.parameter_change import ParameterChange, changed
from chain.limits import parse_limits
from chain.parameters import CHANGEABLE, PARAMETERS, VERDICT_WINDOW, Parameters
from chain.records.models import ACTIVE_MODELS, MODEL_HISTORY_MAX, Activation
from chain.records.organisations import ORGANISATION_TABLE
from chain.schema import Integer
from chain.state import active_model_at, parameters_of
from chain.types import PublicKey
from tests.builders import MODEL, Chain, digest_of, flow, key_of, make_genesis, make_model


@pytest.fixture
def chain():
    return Chain(make_genesis(model=make_model()))


def organisation(**fields):
    values = {
        "name": "globex",
        "registrar_key": key_of("registrar of globex", "p256").public,
        "limits": (),
        "active": True,
        **fields,
    }
    return OrganisationChange(**values)


# --- organisation.change --------------------------------------------------------------------------


def test_a_new_organisation_registers_devices(chain):
    chain.decide("organisation.change", organisation())

    assert chain.device(chain.register(organisation="globex")).status == "active"


def test_a_known_organisation_is_changed_and_keeps_its_devices(chain):
    chain.register()
    new_registrar = key_of("another registrar").public
    chain.decide(
        "organisation.change",
        organisation(name="acme", registrar_key=new_registrar, limits=parse_limits("9:1")),
    )

    record = chain.state.get(ORGANISATION_TABLE, organisation_id("acme"))
    assert record is not None
    assert (record.registrar_key, record.device_count) == (new_registrar, 1)
    assert chain.rejection(chain.registration("more")[1]).code == "bad_signature"


def test_a_closed_organisation_may_do_nothing(chain):
    chain.decide("organisation.change", organisation(active=False))

    assert chain.rejection(chain.registration("x", organisation="globex")[1]).code == (
        "not_permitted"
    )


def test_an_unusable_registrar_key_is_refused(chain):
    body = organisation(registrar_key=PublicKey(bytes(32)))

    assert chain.rejection(chain.by_miner(0, "organisation.change", body)).code == "malformed"


# --- param.change ---------------------------------------------------------------------------------


def test_an_agreed_parameter_holds_from_the_next_block_on(chain):
    chain.decide("param.change", ParameterChange(name="heartbeat_ms", value="5000"))

    assert parameters_of(chain.state).heartbeat_ms == 5_000


@pytest.mark.parametrize("name", [name for name in CHANGEABLE if not name.endswith("_limits")])
def test_bounds_of_a_parameter_are_kept(name):
    field = PARAMETERS.fields[name]
    assert isinstance(field, Integer)
    for value in (field.minimum - 1, field.maximum + 1):
        with pytest.raises(Rejection, match="malformed"):
            changed(Parameters(), name, str(value))


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("lifetime_floor_ms", "0", "not_found"),
        ("nonsense", "0", "not_found"),
        ("__class__", "0", "not_found"),
        ("heartbeat_ms", "", "malformed"),
        ("heartbeat_ms", "-5000", "malformed"),
        ("heartbeat_ms", "5e3", "malformed"),
        ("heartbeat_ms", "5000.0", "malformed"),
        ("heartbeat_ms", "0x1388", "malformed"),
        ("heartbeat_ms", "\u0665000", "malformed"),
        ("heartbeat_ms", "9" * 90, "malformed"),
        ("device_limits", "1", "malformed"),
        ("device_limits", "1:601", "malformed"),
        # A first time-out above the cap would contradict it.
        ("round_timeout_ms", "20001", "malformed"),
        ("round_timeout_max_ms", "1999", "malformed"),
    ],
)
def test_other_values_are_refused(chain, name, value, code):
    transaction = chain.by_miner(0, "param.change", ParameterChange(name=name, value=value))

    assert chain.rejection(transaction).code == code


def test_limits_are_a_parameter_too(chain):
    chain.decide("param.change", ParameterChange(name="device_limits", value="10:1,300:60"))

    assert parameters_of(chain.state).device_limits == parse_limits("10:1,300:60")


def test_a_longer_lifetime_sets_a_floor_and_a_shorter_one_does_not(chain):
    name = "transaction_lifetime_ms"
    before = parameters_of(chain.state).transaction_lifetime_ms
    chain.decide("param.change", ParameterChange(name=name, value="10000"))
    assert parameters_of(chain.state).lifetime_floor_ms == 0

    chain.decide("param.change", ParameterChange(name=name, value=str(before)))

    assert parameters_of(chain.state).lifetime_floor_ms == chain.tip.header.time_ms - 10_000


def test_two_raises_in_one_block_leave_the_floor_of_the_first(chain):
    name = "transaction_lifetime_ms"
    transactions = []
    for value in ("70000", "300000"):
        proposal = chain.by_miner(0, "param.change", ParameterChange(name=name, value=value))
        transactions += [proposal, chain.vote(1, proposal), chain.vote(2, proposal)]
    chain.commit(*transactions)

    floor = parameters_of(chain.state).lifetime_floor_ms
    assert floor == chain.tip.header.time_ms - Parameters().transaction_lifetime_ms


# --- model.register and model.activate ------------------------------------------------------------


def registered(chain, name):
    model = make_model(name, model=digest_of(name), schema=digest_of(f"schema of {name}"))
    chain.commit(chain.by_registrar("model.register", model))
    return model.model


def activate(chain, model):
    chain.decide("model.activate", ModelActivate(model=model))


def activations(chain):
    found = chain.state.get(ACTIVE_MODELS)
    return found.activations


def test_an_activated_model_judges_from_a_fixed_height_on(chain):
    model = registered(chain, "boosted")
    activate(chain, model)
    first = chain.tip.header.height + ACTIVATION_DELAY

    assert active_model_at(chain.state, first - 1) == MODEL
    assert active_model_at(chain.state, first) == model
    assert active_model_at(chain.state, 10**9) == model


def test_flows_are_judged_by_the_model_of_their_height(chain):
    device = chain.register()
    model = registered(chain, "boosted")
    activate(chain, model)
    new = flow(schema=digest_of("schema of boosted"))

    judged_by_old = chain.commit(chain.by_device(device, flow()), chain.by_device(device, new))
    judged_by_new = chain.commit(chain.by_device(device, flow()), chain.by_device(device, new))

    assert judged_by_old.summary.flows == judged_by_new.summary.flows == (device.id,)


def test_a_chain_without_a_model_judges_nothing():
    chain = Chain()
    device = chain.register()

    assert chain.commit(chain.by_device(device, flow())).summary.flows == ()


@pytest.mark.attack("D7")
def test_a_model_is_registered_once(chain):
    again = make_model("other")

    assert chain.rejection(chain.by_registrar("model.register", again)).code == "already_exists"


def test_an_organisation_registers_so_many_models_and_no_more(chain, monkeypatch):
    monkeypatch.setattr("chain.kinds.models.MODELS_PER_ORGANISATION_MAX", 1)
    registered(chain, "first")
    second = make_model("second", model=digest_of("second"))

    assert chain.rejection(chain.by_registrar("model.register", second)).code == "limit_reached"


def test_what_cannot_be_activated_is_refused(chain):
    def code(model):
        return chain.rejection(chain.by_miner(0, "model.activate", ModelActivate(model=model))).code

    model = registered(chain, "boosted")
    assert code(digest_of("nothing")) == "not_found"
    assert code(MODEL) == "already_exists"
    activate(chain, model)
    assert code(model) == "already_exists"


def test_an_activation_waits_for_the_one_before_it(chain):
    first, second = registered(chain, "boosted"), registered(chain, "third")
    activate(chain, first)
    decided = chain.tip.header.height
    activate(chain, second)
    assert activations(chain)[-1].model == first

    chain.commit()

    assert activations(chain)[-2:] == (
        Activation(from_height=decided + ACTIVATION_DELAY, model=first),
        Activation(from_height=decided + 2 * ACTIVATION_DELAY, model=second),
    )


def test_no_activation_forgets_a_model_whose_flows_may_still_be_judged(chain):
    # Nodes that rebuilt their look-back would have found other flows than those that never stopped.
    other = registered(chain, "boosted")
    first = chain.tip.header.height
    for number in range(MODEL_HISTORY_MAX - 1):
        activate(chain, other if number % 2 == 0 else MODEL)
        chain.commit()
        chain.commit()

    assert active_model_at(chain.state, chain.tip.header.height) == other
    before = activations(chain)
    activate(chain, MODEL)
    # The second one on record, the first that was voted on, judges from here on.
    while chain.tip.header.height < first + 1 + ACTIVATION_DELAY + VERDICT_WINDOW:
        assert activations(chain) == before
        chain.commit(time_ms=chain.next_time_ms + 60_000)

    chain.commit()

    assert activations(chain)[:-1] == before[1:]
    assert activations(chain)[-1].model == MODEL
