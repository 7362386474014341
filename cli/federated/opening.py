"""Opening a federated round: from what a coordinator wants to the terms that the chain takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ldexp
from typing import Final

from chain.federated.records import (
    CLOSED_ROUNDS_MAX,
    MASKED_GROUP_SIZE_MIN,
    OPEN_PHASES,
    OPEN_ROUNDS_MAX,
    PARTICIPANTS_MAX,
    RULES,
    Deadlines,
    Terms,
    groups_needed,
)
from chain.kinds.participation import PARTICIPANT
from chain.kinds.rounds import Invitation, RoundOpen
from chain.types import Digest, Height
from cli.arguments import parse_address
from cli.client import Client
from cli.errors import BadInput

GROUP_SIZE: Final = 10
"""Of masked groups, where there are so many participants: 6 of them have to collude, and then need
the others to drop out but for one, or one of them to complain; 7 need nothing."""
STEPS: Final = 40
CLIP: Final = 1.0
SCALE_BITS: Final = 32
DEADLINES: Final = "300,60,600,120,120,120"
"""Heights for each phase; an idle chain makes one every second or two while a round is open."""
DEVICES_MAX: Final = 10_000
CLIP_MAX: Final = 2**62
"""Half of what the chain takes of a sum: room for what the arithmetic adds."""

ROUNDS_MAX: Final = OPEN_ROUNDS_MAX + CLOSED_ROUNDS_MAX
"""The chain has no more."""

_PHASES: Final = [phase for phase in OPEN_PHASES if phase != "draw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """What a coordinator wants of a round; None is left to `opening`.

    Parameters
    ----------
    participants : str or None
        ``ID[:WEIGHT[:STEPS]],…``; None: all active devices with the role.
    clip : float
        The longest update of weight 1 that is taken, before it is put in fixed point.
    deadlines : str
        Heights for each phase but the draw, as ``300,60,600,120,120,120``.
    """

    name: str
    participants: str | None = None
    group_size: int | None = None
    groups_min: int | None = None
    rule: str | None = None
    tolerated: int | None = None
    steps: int = STEPS
    clip: float = CLIP
    scale_bits: int = SCALE_BITS
    deadlines: str = DEADLINES


async def opening(
    client: Client, plan: RoundPlan, *, base: Digest, parameter_count: int
) -> RoundOpen:
    """Return the body of the transaction that opens a round from `base`.

    From 3 groups on the rule is the median of them unless one is chosen, with fewer the mean.

    Raises
    ------
    BadInput
        The plan makes no sense, or too few devices can be invited.
    """
    phases = _heights(plan.deadlines)
    invited = (
        await _all_participants(client, plan.steps)
        if plan.participants is None
        else _invitations(plan.participants, plan.steps)
    )
    size = _group_size(plan.group_size, len(invited))
    rule, withstands = _rule(plan.rule, plan.tolerated, len(invited) // size)
    terms = Terms(
        name=plan.name,
        base=base,
        parameter_count=parameter_count,
        scale_bits=plan.scale_bits,
        clip=_fixed_clip(plan.clip, plan.scale_bits, invited),
        group_size=size,
        groups_min=plan.groups_min or groups_needed(rule, withstands),
        rule=rule,
        tolerated=withstands,
        deadlines=_deadlines((await client.status())["height"], phases),
    )
    return RoundOpen(terms=terms, participants=invited)


async def used_before(client: Client, body: RoundOpen) -> int:
    """Return how many of those invited have sent an update from the base, or are about to.

    Masks hide nothing where two sums from one base differ by one update, so these join no more. It
    is as the rounds show it that the chain still has: only the participant knows for sure.
    """
    invited = {invitation.device.hex() for invitation in body.participants}
    found = set()
    for item in await client.pages("/v1/rounds", limit=ROUNDS_MAX):
        if item["base"] == body.terms.base.hex():
            shown = await client.get(f"/v1/rounds/{item['id']}")
            for member in shown["members"]:
                is_void = member["group"] in shown["void"]
                is_told = member["status"] == "included" and not is_void
                may_tell = shown["phase"] in OPEN_PHASES and member["mask_key"] is not None
                if is_told or may_tell:
                    found.add(member["device"])
    return len(found & invited)


async def _all_participants(client: Client, steps: int) -> tuple[Invitation, ...]:
    devices = await client.pages("/v1/devices", limit=DEVICES_MAX, status="active")
    ids = [device["id"] for device in devices if PARTICIPANT in device["roles"]]
    return _invitations(",".join(ids), steps)


def _invitations(text: str, steps: int) -> tuple[Invitation, ...]:
    """Read ``ID[:WEIGHT[:STEPS]],…``, in the order that the chain asks for."""
    invited = {}
    for part in [part for part in text.split(",") if part]:
        id, *numbers = part.split(":")
        device = parse_address(id, "device id")
        try:
            weight, own_steps = [int(number) for number in numbers] + [1, steps][len(numbers) :]
        except ValueError as error:
            raise BadInput(f"{part[:100]!r} is no participant", "give ID:WEIGHT:STEPS") from error
        if device in invited:
            raise BadInput(f"participant {id} is given twice", "name each once")
        invited[device] = Invitation(device=device, weight=weight, steps=own_steps)
    if not 1 <= len(invited) <= PARTICIPANTS_MAX:
        raise BadInput(
            f"{len(invited)} participants, not 1 to {PARTICIPANTS_MAX}",
            "give devices the role: securenet device register --role participant",
        )
    return tuple(invited[device] for device in sorted(invited))


def _group_size(asked: int | None, count: int) -> int:
    if asked is not None:
        if 1 < asked < MASKED_GROUP_SIZE_MIN:
            raise BadInput(
                f"in groups of {asked} a member knows the other's update from their sum",
                f"take --group-size {MASKED_GROUP_SIZE_MIN} or more, or 1, which hides nothing",
            )
        return asked
    if count < MASKED_GROUP_SIZE_MIN:
        raise BadInput(
            f"{count} participants hide nothing from each other",
            f"invite {MASKED_GROUP_SIZE_MIN} or more, or take --group-size 1, which hides nothing",
        )
    return min(GROUP_SIZE, count)


def _rule(rule: str | None, tolerated: int | None, groups: int) -> tuple[str, int]:
    """Return the rule and what it withstands: where nothing is said, what the groups allow."""
    if rule is not None and rule not in RULES:
        raise BadInput(f"{rule[:40]!r} is no rule", f"take one of {', '.join(RULES)}")
    chosen = rule or ("median" if groups >= groups_needed("median", 1) else "mean")
    if tolerated is not None:
        return chosen, tolerated
    is_enough = chosen != "mean" and groups >= groups_needed(chosen, 1)
    return chosen, 1 if is_enough else 0


def _fixed_clip(clip: float, scale_bits: int, invited: Sequence[Invitation]) -> int:
    """Return the bound in fixed point, where a sum of all updates stays within 62 bits."""
    try:
        fixed = round(ldexp(clip, scale_bits))
    except (OverflowError, ValueError):  # infinite, or no number
        fixed = 0
    weights = sum([invitation.weight for invitation in invited])
    if not 1 <= fixed <= CLIP_MAX // max(weights, 1):
        raise BadInput(
            f"--clip {clip:g} with {scale_bits} bits and weights of {weights} leaves 62 bits",
            "take fewer --scale-bits, a smaller --clip or smaller weights",
        )
    return fixed


def _heights(text: str) -> list[int]:
    try:
        heights = [int(part) for part in text.split(",")]
    except ValueError:
        heights = []
    if len(heights) != len(_PHASES) or min(heights) < 1:
        raise BadInput(
            f"{text[:80]!r} are no deadlines",
            f"give heights for {', '.join(_PHASES)}, as {DEADLINES}",
        )
    return heights


def _deadlines(height: int, phases: Sequence[int]) -> Deadlines:
    """Return the last height of each phase, behind the block that will open the round."""
    last = height + 1
    found = {}
    for name, heights in zip(_PHASES, phases, strict=True):
        # The draw takes a block of its own, behind joining.
        last += heights + (name == "share")
        found[name] = Height(last)
    return Deadlines(**found)
