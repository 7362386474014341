"""What a participant does in a federated round, and what it never does, whenever it is killed."""

from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chain.federated.records import threshold
from chain.types import Address, Digest
from cli.errors import BadInput, Contradicted, OtherPromise, Refused
from cli.federated.company import sees_all
from cli.federated.memory import Memory, MemoryStore, Promise
from cli.federated.participant import end_part
from cli.federated.privacy import ledger_path, load_ledger, privacy_in
from tests.builders import digest_of
from tests.unit.cli.federated.world import Killed, Life, World

MASKED_EFFECTS = 30
"""More than a participant has in a masked round; those behind its last one kill nobody."""


def test_a_masked_round_ends_with_the_sum_of_what_was_trained(tmp_path):
    world = World(tmp_path)

    world.play()

    assert world.federation.record.phase == "finished"
    assert np.array_equal(world.total, world.expected())
    assert {m.status for m in world.federation.record.members} == {"included"}


def test_in_the_audit_mode_updates_are_what_was_trained(tmp_path):
    world = World(tmp_path, group_size=1, groups_min=1)

    world.play()

    assert world.federation.record.phase == "finished"
    assert np.array_equal(world.total, world.expected())


def said_once(world, device):
    """Make sure that nothing that is said once was said in two ways."""
    port = world.ports[device.id]
    for kind in ("round.join", "round.share", "update.commit", "update.reveal"):
        bodies = port.bodies(kind)
        assert all(body == bodies[0] for body in bodies), f"two different {kind}"


@pytest.mark.slow
def test_a_participant_killed_at_any_effect_goes_on_and_says_nothing_twice(tmp_path):
    quiet = World(tmp_path / "quiet")
    first = quiet.federation.devices[0]
    quiet.play()
    effects = quiet.lives[first.id].count
    assert 15 < effects < MASKED_EFFECTS

    for killed_at in range(1, effects + 1):
        world = World(tmp_path / str(killed_at))
        device = world.federation.devices[0]
        world.lives[device.id].killed_at = killed_at

        world.play()

        assert world.lives[device.id].count >= killed_at
        assert world.federation.record.phase == "finished"
        assert world.federation.member_of(device).status == "included"
        assert np.array_equal(world.total, world.expected())
        said_once(world, device)


@pytest.mark.slow
def test_what_is_told_with_noise_is_in_the_ledger_before_it_is_sent(tmp_path):
    quiet = World(tmp_path / "quiet", noise=1.0)
    quiet.play()
    effects = quiet.lives[quiet.federation.devices[0].id].count

    for killed_at in range(1, effects + 1):
        world = World(tmp_path / str(killed_at), noise=1.0)
        device = world.federation.devices[0]
        world.lives[device.id].killed_at = killed_at
        path = ledger_path(world.memories(device), device.id)
        counted: list[list[Digest]] = []

        def note(body: Any, path: Path = path, counted: list[list[Digest]] = counted) -> None:
            counted.append([spent.round for spent in load_ledger(path).spent])

        world.ports[device.id].before_commit = note

        world.play()

        assert world.federation.member_of(device).status == "included"
        assert counted
        assert all(rounds == [world.federation.id] for rounds in counted)
        said_once(world, device)


def test_a_round_is_told_with_the_noise_that_the_ledger_counts(tmp_path):
    world = World(tmp_path, noise=10.0)
    device = world.federation.devices[0]
    path = ledger_path(world.memories(device), device.id)
    world.play(until="commit")
    # Killed between the ledger and the update: behind three effects of the first.
    world.lives[device.id] = Life(killed_at=4)
    world.start(device)
    with pytest.raises(Killed):
        world.look(device, world.federation.record)
    (counted,) = load_ledger(path).spent
    assert world.memory(device).update is None
    world.lives[device.id] = Life()

    world.start(device)
    world.play()

    assert world.federation.member_of(device).status == "included"
    assert load_ledger(path).spent == (counted,)


def test_what_was_promised_at_joining_holds_for_whoever_starts_again_without_it(tmp_path):
    world = World(tmp_path, noise=10.0, group_size=1, groups_min=1)
    device = world.federation.devices[0]
    world.play(until="commit")
    asked, world.noise = world.promise, None
    world.start(device)

    world.play()

    assert world.federation.member_of(device).status == "included"
    assert world.memory(device).promise == asked
    (spent,) = load_ledger(ledger_path(world.memories(device), device.id)).spent
    assert spent.deviation == 10 * spent.sensitivity


@pytest.mark.parametrize("joined", [None, 10.0])
def test_whoever_starts_again_and_promises_something_else_is_refused(tmp_path, joined):
    world = World(tmp_path, noise=joined)
    device = world.federation.devices[0]
    world.play(until="commit")
    asked = Promise(noise=10.0, members=1, delta=1e-6, epsilon_max=None)

    with pytest.raises(OtherPromise) as caught:
        privacy_in(world.federation.id, MemoryStore(world.home(device)), device.id, asked)

    then = "without noise" if joined is None else f"with {world.promise}"
    now = "not with --noise 10.0 --delta 1e-06"
    assert f"round {world.federation.id.hex()} {then}, {now}" in str(caught.value)


def test_a_promise_is_kept_to_its_last_digit(tmp_path):
    store = MemoryStore(tmp_path)
    promise = Promise(noise=0.1 + 0.2, members=3, delta=1e-300, epsilon_max=None)
    memory = Memory(round=digest_of("round"), device=Address(digest_of("device")), seed=None)

    store.save(replace(memory, promise=promise))

    found = store.find(memory.round, memory.device)
    assert found is not None
    assert found.promise == promise


def test_noise_changes_an_update_by_what_it_says(tmp_path):
    world = World(tmp_path, noise=2.0, group_size=1, groups_min=1)
    world.play()
    device = world.federation.devices[0]
    (spent,) = load_ledger(ledger_path(world.memories(device), device.id)).spent
    member = world.federation.member_of(device)
    assert member.update is not None

    sent = np.frombuffer(world.blobs[member.update], "<i8") / member.weight

    trained = world.trained[device.id][-1]
    fixed = trained * 2.0**24
    told = fixed * min(1.0, spent.sensitivity / float(np.linalg.norm(fixed)))
    off = float(np.linalg.norm(sent - told))
    assert 0.2 < off / (spent.deviation * sqrt(len(sent))) < 2.5


@pytest.mark.parametrize("phase", ["share", "commit", "attest", "reveal"])
def test_one_that_dies_in_a_phase_spoils_nothing(tmp_path, phase):
    world = World(tmp_path, count=5, group_size=5)
    device = world.federation.devices[2]
    world.play(until=phase)
    if phase == "attest":
        # It hands its update in before it dies.
        world.act(device)
    world.dead.add(device.id)

    world.play()

    assert world.federation.record.phase == "finished"
    assert np.array_equal(world.total, world.expected())


@pytest.mark.attack("F3")
def test_whoever_comes_back_when_its_update_is_withheld_reveals_no_second_secret(tmp_path):
    world = World(tmp_path, count=5, group_size=5)
    device = world.federation.devices[0]
    world.play(until="commit")
    # Killed between the transaction and the blob; back when it is too late for it.
    world.lives[device.id] = Life(killed_at=8)
    world.start(device)
    with pytest.raises(Killed):
        world.look(device, world.federation.record)
    world.dead.add(device.id)
    world.play(until="reveal")
    world.dead.clear()
    world.lives[device.id] = Life()
    world.start(device)

    world.play()

    assert world.federation.member_of(device).status == "withheld"
    assert world.federation.record.phase == "finished"
    assert np.array_equal(world.total, world.expected())


@pytest.mark.attack("F2")
def test_a_copied_update_is_changed_in_one_bit_and_counts(tmp_path):
    world = World(tmp_path)
    thief, victim, *_ = world.federation.devices
    world.play(until="commit")

    def overtake(body):
        world.ports[victim.id].before_commit = None
        world.submit(thief, "update.commit", body)

    world.ports[victim.id].before_commit = overtake
    world.act(victim)
    world.dead.add(thief.id)
    world.play()

    assert world.memory(victim).changes == 1
    assert world.federation.member_of(thief).status == "withheld"
    assert world.federation.member_of(victim).status == "included"
    difference = world.total - world.expected()
    assert np.abs(difference).sum() == 1


def test_shares_that_are_gone_with_a_round_that_ended_meanwhile_are_no_contradiction(tmp_path):
    world = World(tmp_path, count=5, group_size=5)
    world.play(until="reveal")
    device = world.federation.devices[0]
    found = world.federation.record
    world.federation.chain.commit(world.federation.abort())

    world.look(device, found)

    assert world.ports[device.id].bodies("update.reveal") == []


def with_member(record, device, **fields):
    """Return a round in which a member is shown otherwise."""
    place = record.position_of(device.id)
    return record.with_member(place, replace(record.members[place], **fields))


def forge_shares(world, liar):
    """Let a participant hand out shares that it has not hashed, except to itself."""
    port = world.ports[liar.id]
    send = port.send

    async def forged(kind, body):
        if kind == "round.share":
            place = world.federation.group_of(liar).index(world.federation.member_of(liar))
            own = slice(32 * place, 32 * (place + 1))
            hashes = bytearray(len(body.hashes))
            hashes[own] = body.hashes[own]
            body = replace(body, hashes=bytes(hashes))
        await send(kind, body)

    port.send = forged


def test_false_shares_are_left_out_in_silence(tmp_path):
    world = World(tmp_path, count=5, group_size=5)
    liar = world.federation.devices[0]
    forge_shares(world, liar)

    world.play()

    # Only its own share of its secret is any good, so its group, here the only one, is lost.
    assert world.federation.record.phase == "failed"
    for device in world.federation.devices[1:]:
        (reveal,) = world.ports[device.id].bodies("update.reveal")
        assert [share is None for share in reveal.shares] == [True, False, False, False, False]


def test_one_who_complains_names_the_liar_and_commits_nothing(tmp_path):
    world = World(tmp_path, count=7, group_size=7, phase_heights=60)
    liar, victim, *_ = world.federation.devices
    forge_shares(world, liar)
    let_complain(world, victim)

    world.play(until="attest")

    assert world.federation.member_of(liar).status == "expelled"
    assert world.federation.member_of(victim).status == "complained"
    assert world.ports[victim.id].bodies("update.commit") == []


def let_complain(world, *devices):
    """Start participants again, that they complain."""
    for device in devices:
        world.complains.add(device.id)
        world.start(device)


def complaints_sent(world):
    """Return who has ever sent its box secret."""
    devices = world.federation.devices
    return [device for device in devices if world.ports[device.id].bodies("round.complaint")]


def look_in_step(world):
    """Let all see each block before anybody acts on it, as processes of their own do."""
    federation = world.federation
    while federation.record.phase == "commit":
        record = federation.record
        for device in federation.devices:
            world.look(device, record)
        federation.chain.commit()


def look_on(world, device):
    """Let one participant look, block after block, until it is killed."""
    while True:
        world.look(device, world.federation.record)
        world.federation.chain.commit()


@pytest.mark.attack("F10")
def test_of_many_who_are_cheated_by_one_a_single_one_gives_up_its_secret(tmp_path):
    world = World(tmp_path, count=10, group_size=10, phase_heights=100)
    liar, *others = world.federation.devices
    forge_shares(world, liar)
    let_complain(world, *others)
    world.play(until="commit")

    look_in_step(world)

    (complainer,) = complaints_sent(world)
    members = [world.federation.member_of(device) for device in others if device != complainer]
    assert world.federation.member_of(liar).status == "expelled"
    assert world.federation.member_of(complainer).status == "complained"
    assert {member.status for member in members} == {"committed"}


@pytest.mark.attack("F10")
@pytest.mark.parametrize(("size", "named"), [(6, 0), (10, 1), (13, 2)])
def test_liars_draw_no_more_secrets_out_of_a_group_than_it_bears(tmp_path, size, named):
    world = World(tmp_path, count=size, group_size=size, phase_heights=150)
    *others, third, second, first = world.federation.devices
    for liar in (first, second, third):
        forge_shares(world, liar)
    let_complain(world, *others)
    world.play(until="commit")

    look_in_step(world)

    statuses = [member.status for member in world.federation.record.members]
    assert len(complaints_sent(world)) == statuses.count("expelled") == named
    assert statuses.count("committed") == size - 2 * named
    assert threshold(size) - named > size / 2


@pytest.mark.attack("F10")
def test_whoever_has_accused_and_finds_the_liar_expelled_sends_nothing_more(tmp_path):
    world = World(tmp_path, count=10, group_size=10, phase_heights=100)
    liar, slow, quick, *_ = world.federation.devices
    forge_shares(world, liar)
    let_complain(world, slow)
    world.play(until="commit")
    world.ports[slow.id].is_cut = True
    with pytest.raises(Killed):
        look_on(world, slow)
    assert world.memory(slow).accused == liar.id
    world.ports[slow.id].is_cut = False
    let_complain(world, quick)
    while not complaints_sent(world):
        world.look(quick, world.federation.record)
        world.federation.chain.commit()
    world.start(slow)

    world.play()

    assert complaints_sent(world) == [quick]
    assert world.ports[slow.id].bodies("update.commit") == []


@pytest.mark.slow
@pytest.mark.attack("F10")
def test_whoever_is_killed_while_it_complains_never_shows_an_update_too(tmp_path):
    complained = set()
    for killed_at in range(1, MASKED_EFFECTS):
        world = World(tmp_path / str(killed_at), count=7, group_size=7, phase_heights=60)
        liar, *_, victim = world.federation.devices
        forge_shares(world, liar)
        world.lives[victim.id].killed_at = killed_at
        let_complain(world, victim)

        world.play(until="attest")

        port = world.ports[victim.id]
        assert len({body.accused for body in port.bodies("round.complaint")}) == 1
        assert port.bodies("update.commit") == []
        complained.add(world.federation.member_of(victim).status)
    assert complained == {"complained"}


def test_a_complaint_that_comes_a_moment_too_late_ends_the_own_part_in_silence(tmp_path):
    world = World(tmp_path, count=10, group_size=10, phase_heights=100)
    liar, late, first, *_ = world.federation.devices
    forge_shares(world, liar)
    let_complain(world, late)
    world.play(until="commit")
    let_complain(world, first)
    before = world.federation.record
    while not complaints_sent(world):
        before = world.federation.record
        world.look(first, before)
        world.federation.chain.commit()

    while not world.ports[late.id].bodies("round.complaint"):
        world.look(late, before)
        world.federation.chain.commit()
    world.play()

    assert world.federation.member_of(late).status == "shared"
    assert world.ports[late.id].bodies("update.commit") == []


def test_whoever_looks_late_keeps_silent_and_commits(tmp_path):
    world = World(tmp_path, count=10, group_size=10, phase_heights=100)
    liar, victim, *_ = world.federation.devices
    forge_shares(world, liar)
    let_complain(world, victim)
    world.play(until="commit")
    for _ in range(150):
        world.federation.chain.commit()

    world.play()

    assert complaints_sent(world) == []
    assert world.ports[victim.id].bodies("update.commit")


def test_whoever_is_shown_two_lists_of_survivors_reveals_for_one(tmp_path):
    world = World(tmp_path, count=5, group_size=5)
    device, other, *_ = world.federation.devices
    world.play(until="reveal")
    record = world.federation.record
    lie = with_member(record, other, status="withheld")

    with pytest.raises(Refused, match="wrong_share"):
        world.look(device, lie)
    world.start(device)

    with pytest.raises(Contradicted):
        world.look(device, record)
    assert len(world.ports[device.id].bodies("update.reveal")) == 1


def test_secrets_are_shared_with_one_group_only(tmp_path):
    world = World(tmp_path, count=4)
    device, other, *_ = world.federation.devices
    world.play(until="share")
    world.act(device)
    record = world.federation.record
    record = with_member(record, device, status="joined")
    record = with_member(record, other, box_key=b"\x09" + bytes(31))

    with pytest.raises(Contradicted):
        world.look(device, record)


@pytest.mark.attack("F10")
@pytest.mark.parametrize(("theirs", "is_trusted"), [(4, True), (5, False)])
def test_nothing_is_handed_to_a_group_that_another_organisation_fills(tmp_path, theirs, is_trusted):
    world = World(tmp_path, count=7, group_size=7)
    device, *others = world.federation.devices
    foreign = Address(b"o" * 32)
    world.organisations = {each.id: foreign for each in others[:theirs]}
    world.play(until="share")

    world.act(device)

    assert world.federation.member_of(device).has_shared == is_trusted
    assert (world.memory(device).group is not None) == is_trusted
    assert [foreign.hex() in text for text in world.told] == ([] if is_trusted else [True])


@pytest.mark.parametrize(("size", "theirs"), [(3, 2), (4, 3), (5, 4), (7, 5), (10, 7)])
def test_an_organisation_sees_all_with_as_many_as_restore_secrets_or_all_but_one(size, theirs):
    devices = [Address(digest_of(str(number))) for number in range(size)]
    own, foreign, third = (Address(letter * 32) for letter in (b"a", b"b", b"c"))

    def divided(count):
        rest = dict.fromkeys(devices[1 + count :], third)
        return {devices[0]: own} | dict.fromkeys(devices[1 : 1 + count], foreign) | rest

    assert sees_all(divided(theirs), devices[0]) == foreign
    assert sees_all(divided(theirs - 1), devices[0]) is None
    assert sees_all(dict.fromkeys(devices, own), devices[0]) is None


def test_a_group_with_too_few_masks_gets_no_update(tmp_path):
    world = World(tmp_path, count=4)
    device, *others = world.federation.devices
    world.play(until="commit")
    record = world.federation.record
    for other in others:
        record = with_member(record, other, status="joined")

    with pytest.raises(Contradicted):
        world.look(device, record)
    assert world.ports[device.id].bodies("update.commit") == []


def test_another_home_does_not_go_on(tmp_path):
    world = World(tmp_path)
    device = world.federation.devices[0]
    world.play(until="share")
    (path,) = (world.home(device) / "federated").glob("*.json")
    path.rename(path.with_suffix(".lost"))

    with pytest.raises(BadInput, match="knows nothing"):
        world.look(device, world.federation.record)


def test_who_is_too_late_or_not_invited_is_told(tmp_path):
    world = World(tmp_path)
    device = world.federation.devices[0]
    world.dead.add(device.id)
    record = world.federation.record

    with pytest.raises(Refused, match="too_late"):
        world.look(device, replace(record, phase="commit"))
    stranger = replace(record, members=record.members[1:])
    with pytest.raises(Refused, match="not_invited"):
        world.look(device, stranger)


def test_when_the_round_is_over_no_secret_is_left(tmp_path):
    world = World(tmp_path)
    device = world.federation.devices[0]
    world.play()
    seed = world.memory(device).seed

    end_part(
        MemoryStore(world.home(device)), world.federation.id, device.id, world.federation.record
    )

    memory = world.memory(device)
    assert seed is not None
    assert memory.seed is None
    assert memory.update == world.federation.member_of(device).update
    left = list((world.home(device) / "federated").iterdir())
    assert [path.suffix for path in left] == [".json"]
    assert all(seed.hex() not in path.read_text() for path in left)


@pytest.mark.attack("F10")
@pytest.mark.parametrize(
    ("dead", "until", "is_told"),
    [(0, "finished", True), (0, "reveal", True), (0, "attest", False), (2, "failed", False)],
)
def test_whether_a_sum_may_be_known_is_remembered_beyond_the_round(tmp_path, dead, until, is_told):
    world = World(tmp_path, count=5, group_size=5)
    device, *others = world.federation.devices
    base, other = world.federation.terms.base, Digest(b"o" * 32)
    world.play(until="commit")
    world.dead |= {lost.id for lost in others[:dead]}
    world.play(until=until)
    if world.federation.record.is_open:
        world.federation.chain.commit(world.federation.abort())
    store = MemoryStore(world.home(device))
    assert store.has_told(device.id, base, besides=other), "as long as the round is not closed"

    end_part(
        MemoryStore(world.home(device)), world.federation.id, device.id, world.federation.record
    )

    assert store.has_told(device.id, base, besides=other) == is_told
    assert not store.has_told(device.id, base, besides=world.federation.id)
    assert not store.has_told(device.id, other, besides=other)


@pytest.mark.attack("F10")
def test_whose_update_was_withheld_has_told_nothing(tmp_path):
    world = World(tmp_path, count=5, group_size=5)
    device = world.federation.devices[0]
    world.play(until="commit")
    world.dead.add(device.id)
    world.play()

    end_part(
        MemoryStore(world.home(device)), world.federation.id, device.id, world.federation.record
    )

    assert world.federation.record.phase == "finished"
    base = world.federation.terms.base
    assert not MemoryStore(world.home(device)).has_told(device.id, base, besides=Digest(b"o" * 32))


def test_a_memory_is_for_nobody_else_and_a_damaged_one_is_refused(tmp_path):
    world = World(tmp_path)
    device = world.federation.devices[0]
    world.act(device)
    (path,) = (world.home(device) / "federated").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    store = MemoryStore(world.home(device))

    for damaged in (b"", b"{", b"[]", path.read_bytes().replace(b'"changes": 0', b'"changes": -1')):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="damaged"):
            store.find(world.federation.id, device.id)
