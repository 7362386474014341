"""Differential privacy of a sum: discrete Gaussian noise from every member, and what it has spent.

Masks hide an update in a sum, not what the sum tells. So a member adds integer noise: enough by
itself, or so much that a number of members together have enough, whoever of the others drops out or
adds none. Samples are exact, from integers alone; a Gaussian of floats would leak by its gaps. The
guarantee is that of a whole participant, against its taking no part, and is counted as
zero-concentrated differential privacy, which adds up.

References
----------
C. Canonne, G. Kamath, T. Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020:
the sampler, and what rho is. P. Kairouz, Z. Liu, T. Steinke, "The Distributed Discrete Gaussian
Mechanism for Federated Learning with Secure Aggregation", ICML 2021: sums of such noise are as
good, but for a term that vanishes where each member's deviation is not tiny. Why no accountant of a
library: docs/adr/0032-privacy-ledger.md.
"""

from dataclasses import dataclass
from math import ceil, exp, floor, fsum, isqrt, log, log1p, sqrt
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from chain.types import Digest
from ml_validator.errors import InvalidUpdate, NoiseChanged, PrivacySpent
from ml_validator.federated.fixed_point import (
    Floats,
    Integers,
    UpdateRules,
    clipped,
    to_fixed,
)

DEVIATION_MIN: Final = 4
"""Of one member's noise, in units of fixed point; below, sums of it are no longer as good."""

ROOM: Final = 2
"""Times its expected norm, noise has room for under the bound on updates."""

_CHUNK: Final = 4_096
_ORDERS: Final = range(-64, 65)
"""Steps of 1 / 16 of a power of e around a good order; every order gives a bound that holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How private an update shall be.

    Parameters
    ----------
    sensitivity : int
        What a member shortens its update to before it adds noise: L2 norm, in fixed point.
    deviation : int
        Standard deviation of the noise of `members` together, in fixed point.
    members : int
        How many at least add such noise to one sum; 1: the own noise is enough.

    Raises
    ------
    InvalidUpdate
        A member's own noise would be too small.
    """

    sensitivity: int
    deviation: int
    members: int = 1

    def __post_init__(self) -> None:
        if self.deviation**2 < self.members * DEVIATION_MIN**2:
            raise InvalidUpdate("noise", f"a deviation of {self.deviation} is too small")

    @property
    def member_variance(self) -> int:
        """Variance of the noise that each member adds, rounded up."""
        return -(-(self.deviation**2) // self.members)

    def room(self, parameters: int) -> int:
        """Return what the bound on an update of so many parameters has to leave for the noise."""
        return ROOM * (isqrt(parameters * self.member_variance) + 1)


def fitting_noise(multiplier: float, *, parameters: int, norm_max: int, members: int = 1) -> Noise:
    """Return the noise of a member, with the largest sensitivity that its bound has room for.

    Parameters
    ----------
    multiplier : float
        The deviation of a member's own noise, in sensitivities.
    norm_max : int
        Bound on the norm of what the member sends.

    Raises
    ------
    InvalidUpdate
        There is no room.
    """
    spread = ROOM * sqrt(parameters)
    # Roundings of deviation, variance and root take 2 in each parameter's own noise at most.
    sensitivity = floor((norm_max - 2 * spread - 2 * ROOM) / (1 + spread * multiplier))
    if sensitivity < 1:
        raise InvalidUpdate("noise", f"a bound of {norm_max} leaves no room for it")
    deviation = ceil(multiplier * sensitivity * sqrt(members))
    return Noise(sensitivity=sensitivity, deviation=deviation, members=members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a federated round was told."""

    round: Digest
    base: Digest
    sensitivity: int
    deviation: int

    @property
    def rho(self) -> float:
        """The same as zero-concentrated differential privacy."""
        return self.sensitivity**2 / (2 * self.deviation**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyLedger:
    """What one participant has told of its rows, over all federated rounds.

    Models are not told apart: what several tell of the same rows adds up.
    """

    spent: tuple[Spent, ...] = ()

    @property
    def rho(self) -> float:
        """The sum, as zero-concentrated differential privacy."""
        return fsum(spent.rho for spent in self.spent)

    def epsilon(self, delta: float) -> float:
        """Return epsilon, where the guarantee may fail with the chance `delta`."""
        return epsilon_of(self.rho, delta)

    def find(self, round_id: Digest) -> Spent | None:
        """Return what a round was told, or None."""
        return next((spent for spent in self.spent if spent.round == round_id), None)

    def spend(self, entry: Spent, *, delta: float, epsilon_max: float) -> "PrivacyLedger":
        """Return the ledger with one more round; one that is in it with this noise costs nothing.

        Raises
        ------
        NoiseChanged
            The round is in it with other noise.
        PrivacySpent
            It would exceed what may be spent; take no part in that round.
        """
        known = self.find(entry.round)
        if known is not None:
            if known != entry:
                raise NoiseChanged(entry.round)
            return self
        after = PrivacyLedger(spent=(*self.spent, entry))
        if after.epsilon(delta) > epsilon_max:
            raise PrivacySpent(after.epsilon(delta), epsilon_max)
        return after


def epsilon_of(rho: float, delta: float) -> float:
    """Return for which epsilon `rho`-zero-concentrated privacy is (epsilon, `delta`)-private.

    References
    ----------
    Canonne, Kamath, Steinke, Proposition 12, at the best of many orders; never more than
    rho + 2 √(rho log(1 / delta)).
    """
    if not rho:
        return 0.0
    good = sqrt(log(1 / delta) / rho)
    orders = [1 + good * exp(step / 16) for step in _ORDERS]
    return max(
        0.0,
        min([rho * a + log1p(-1 / a) - (log(delta) + log(a)) / (a - 1) for a in orders]),
    )


def prepared_privately(
    values: Floats, *, rules: UpdateRules, noise: Noise, seed: bytes, weight: int = 1
) -> Integers:
    """Return what a participant sends: shortened to the sensitivity, with noise, times its weight.

    Should the noise for once be longer than there is room for, all of it is shortened: that tells
    nothing more.

    Parameters
    ----------
    seed : bytes
        32 secret bytes for this round alone, as `RoundSecrets.noise_seed`; equal seeds make equal
        noise, so that a participant which restarts does not average it out.

    Raises
    ------
    InvalidUpdate
        As in `to_fixed`; or the bound on norms leaves the noise no room.
    """
    room = noise.room(rules.parameters)
    if noise.sensitivity + room > rules.norm_max:
        raise InvalidUpdate(
            "noise", f"{noise.sensitivity} and room of {room} exceed {rules.norm_max}"
        )
    update = clipped(to_fixed(values, rules=rules), noise.sensitivity)
    bits = _Bits(seed)
    drawn = [_gaussian(noise.member_variance, bits) for _ in range(rules.parameters)]
    return clipped(update + np.array(drawn, np.int64), rules.norm_max) * np.int64(weight)


class _Bits:
    """Random integers from a seed."""

    def __init__(self, seed: bytes) -> None:
        self._cipher = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor()
        self._pool = 0
        self._count = 0

    def below(self, bound: int) -> int:
        """Draw from 0 to `bound` − 1, each with the same chance."""
        size = (bound - 1).bit_length()
        while True:
            value = self._take(size)
            if value < bound:
                return value

    def _take(self, size: int) -> int:
        if self._count < size:
            fresh = self._cipher.update(bytes(_CHUNK))
            self._pool |= int.from_bytes(fresh, "big") << self._count
            self._count += 8 * _CHUNK
        value = self._pool & ((1 << size) - 1)
        self._pool >>= size
        self._count -= size
        return value


def _gaussian(variance: int, bits: _Bits) -> int:
    """Draw an integer x with a chance in proportion to exp(−x² / 2 variance)."""
    scale = isqrt(variance) + 1
    while True:
        value = _laplace(scale, bits)
        excess = abs(value) * scale - variance
        if _happens(excess * excess, 2 * variance * scale * scale, bits):
            return value


def _laplace(scale: int, bits: _Bits) -> int:
    """Draw an integer x with a chance in proportion to exp(−|x| / scale)."""
    while True:
        part = bits.below(scale)
        if not _happens(part, scale, bits):
            continue
        whole = 0
        while _happens(1, 1, bits):
            whole += 1
        value = part + scale * whole
        if not bits.below(2):
            return value
        if value:
            return -value


def _happens(numerator: int, denominator: int, bits: _Bits) -> bool:
    """Return True with the chance exp(−numerator / denominator)."""
    while numerator > denominator:
        if not _happens(1, 1, bits):
            return False
        numerator -= denominator
    count = 1
    while bits.below(denominator * count) < numerator:
        count += 1
    return count % 2 == 1
