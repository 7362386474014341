"""`securenet device`: the registry through the command line."""

import pytest
from aiohttp import web

from chain.crypto import signing_key
from chain.kinds.organisations import organisation_id
from cli.device_view import show_device
from cli.exit_codes import ExitCode
from tests.unit.cli.conftest import key_file

SENSOR = signing_key("ed25519", b"s" * 32)


def test_a_registered_device_is_listed_and_shown(securenet, node, registrar, sensor):
    arguments = ("--key", registrar, "--name", "pump-1", "--device-key", sensor)
    ended = securenet("device", "register", *arguments, "--limits", "10:1,300:60", "--json")

    assert ended.code == ExitCode.OK, ended.err
    id = ended.document["device"]
    assert ended.document["transaction"]["status"] == "committed"
    (listed,) = securenet("device", "list", "--json").document
    assert (listed["id"], listed["name"], listed["limits"]) == (id, "pump-1", "10:1,300:60")
    assert securenet("device", "show", id, "--json").document["key"] == SENSOR.public.hex()


def test_a_device_is_registered_by_its_public_key_alone(securenet, node, registrar):
    ended = securenet(
        *("device", "register", "--key", registrar, "--name", "x", "--role", "gateway"),
        *("--public-key", SENSOR.public.hex(), "--json"),
    )

    assert ended.code == ExitCode.OK, ended.err
    assert securenet("device", "list", "--json").document[0]["roles"] == ["gateway"]


def test_a_name_in_the_place_of_an_id_is_told_where_ids_are(securenet, node, registrar):
    for command in (("show", "pump-1"), ("suspend", "pump-1", "--key", registrar)):
        ended = securenet("device", *command)

        assert ended.code == ExitCode.USAGE
        assert "securenet device list has them" in ended.err


def test_an_id_in_the_place_of_a_name_is_told_where_names_are(securenet, node):
    path = f"/v1/policies/{organisation_id('ab' * 32).hex()}"
    problem = {"code": "not_found", "detail": "there is no such organisation"}
    node.overrides[path] = [web.json_response(problem, status=404)]

    ended = securenet("policy", "show", "--organisation", "ab" * 32)

    assert ended.code == ExitCode.NOT_FOUND
    assert "securenet organisation list has the names" in ended.err


def test_the_life_of_a_device(securenet, node, registrar, sensor):
    id = node.register(SENSOR)

    def status():
        return securenet("device", "show", id, "--json").document["status"]

    assert securenet("device", "suspend", id, "--key", registrar).code == ExitCode.OK
    assert status() == "suspended"
    assert securenet("device", "resume", id, "--key", registrar).code == ExitCode.OK
    assert status() == "active"
    assert securenet("device", "revoke", id, "--key", registrar).code == ExitCode.OK
    assert status() == "revoked"

    ended = securenet("device", "resume", id, "--key", registrar)

    assert ended.code == ExitCode.REFUSED
    assert ended.err.startswith("error: device_not_active: ")


def test_limits_and_roles_are_changed(securenet, node, registrar):
    id = node.register(SENSOR)

    assert securenet("device", "limits", id, "5:10", "--key", registrar).code == ExitCode.OK
    assert securenet("device", "roles", id, "--role", "gateway", "--key", registrar).code == 0

    device = securenet("device", "show", id, "--json").document
    assert (device["limits"], device["roles"]) == ("5:10", ["gateway"])


def test_a_rotated_device_keeps_its_id_and_signs_with_the_new_key(
    securenet, node, registrar, sensor, tmp_path
):
    id = node.register(SENSOR)
    new = key_file(tmp_path / "new.json", "w", "p256")

    assert securenet("device", "rotate", id, "--key", registrar, "--new-key", new).code == 0

    send = ("tx", "submit", "--reading", "t=1")
    assert securenet(*send, "--key", new, "--device", id, "--wait").code == ExitCode.OK
    refused = securenet(*send, "--key", sensor)
    assert refused.code == ExitCode.REFUSED
    assert "bad_signature" in refused.err


def test_release_of_a_device_that_is_not_quarantined_is_refused(securenet, node, registrar):
    id = node.register(SENSOR)

    ended = securenet("device", "release", id, "--key", registrar)

    assert ended.code == ExitCode.REFUSED
    assert "invalid_state" in ended.err


def test_only_devices_of_a_state_are_listed(securenet, node):
    node.register(SENSOR)

    assert securenet("device", "list", "--status", "active", "--json").document != []
    assert securenet("device", "list", "--status", "quarantined").out == "no devices\n"


def test_an_unknown_device_is_not_found(securenet, node):
    ended = securenet("device", "show", "ab" * 32)

    assert ended.code == ExitCode.NOT_FOUND
    assert ended.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "no-hex"),
        ("show", "ab" * 31),
        ("register", "--key", "KEY", "--name", "x"),
        ("register", "--key", "KEY", "--name", "x", "--public-key", "00" * 32),
        ("register", "--key", "KEY", "--name", "bad name", "--public-key", SENSOR.public.hex()),
        (
            *("register", "--key", "KEY", "--name", "x", "--public-key", SENSOR.public.hex()),
            "--role",
            "boss",
        ),
        ("limits", "ab" * 32, "ten a second", "--key", "KEY"),
        ("list", "--limit", "0"),
    ],
)
def test_an_argument_that_is_not_what_it_should_be_changes_nothing(
    securenet, node, registrar, arguments
):
    filled = [registrar if argument == "KEY" else argument for argument in arguments]

    ended = securenet("device", *filled)

    assert ended.code == ExitCode.USAGE
    assert len(ended.err.splitlines()) == 2
    assert "POST /v1/transactions" not in node.requests


def test_a_key_of_no_registrar_is_told_before_anything_is_sent(securenet, node, sensor):
    ended = securenet("device", "suspend", "ab" * 32, "--key", sensor)

    assert ended.code == ExitCode.USAGE
    assert "--organisation" in ended.err
    assert "POST /v1/transactions" not in node.requests


def test_acting_for_an_organisation_with_a_strange_key_is_refused(securenet, node, sensor):
    ended = securenet("device", "suspend", "ab" * 32, "--key", sensor, "--organisation", "acme")

    assert ended.code == ExitCode.REFUSED
    assert "bad_signature" in ended.err


@pytest.fixture
def stopped(node):
    """Return the id of a quarantined device."""
    id = node.register(SENSOR)
    node.chain.quarantine(id)
    return id


def appeal(securenet, key, *more):
    return securenet("device", "appeal", "--key", key, "--text", "a firmware update", *more)


@pytest.mark.parametrize("by_id", [False, True])
def test_a_quarantined_device_appeals_and_is_released(
    securenet, node, registrar, sensor, stopped, by_id
):
    named = ("--device", stopped) if by_id else ()

    assert appeal(securenet, sensor, *named).code == ExitCode.OK

    (listed,) = securenet("query", "measures", "--appealed", "--json").document
    assert (listed["device"], listed["appeal"]["text"]) == (stopped, "a firmware update")
    shown = securenet("query", "measures").out
    assert "30 of 100" in shown
    assert "a firmware update" in shown
    assert securenet("device", "release", stopped, "--key", registrar).code == ExitCode.OK
    assert securenet("query", "measures", "--appealed").out == "no measures\n"
    assert securenet("device", "list", "--status", "active", "--json").document != []


def test_an_appeal_is_refused_and_not_made_again(securenet, node, registrar, sensor, stopped):
    appeal(securenet, sensor)

    assert securenet("device", "refuse", stopped, "--key", registrar).code == ExitCode.OK

    (measure,) = securenet("query", "measures", "--json").document
    assert measure["answer"] == "refused"
    shown = securenet("device", "show", stopped).out
    assert "quarantine at height 1: 30 of 100 flows anomalous" in shown
    assert f"a firmware update: refused at height {measure['answered_height']}" in shown
    again = appeal(securenet, sensor)
    assert again.code == ExitCode.REFUSED
    assert "already_appealed" in again.err


def test_a_text_that_no_node_would_take_is_not_sent(securenet, node, sensor, stopped):
    ended = securenet("device", "appeal", "--key", sensor, "--text", "two\nlines")

    assert ended.code == ExitCode.USAGE
    assert len(ended.err.splitlines()) <= 2
    assert "POST /v1/transactions" not in node.requests


def test_a_tally_is_shown_as_its_distance_from_the_line(capsys):
    tally = {"judged": 50, "anomalous": 9, "in_window": 4, "window": 20, "anomalous_min": 6}

    show_device({"id": "ab", "tally": tally, "measure": None})

    assert "9 of 50 flows anomalous; 4 of the last 20, 6 cross the line" in capsys.readouterr().out
