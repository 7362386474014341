"""Differential privacy of a sum: discrete Gaussian noise from every member, and what it has spent.

Masks hide an update in a sum, not what the sum tells. So each member adds integer noise, of which
any `threshold` members of a group together have enough: members that drop out, or leave theirs
away, do not lower it below that as long as so many remain. Samples are exact, from integers alone;
a Gaussian of floats would leak by its gaps. The guarantee is that of a whole participant, for the
sum of its group, and is counted as zero-concentrated differential privacy, which adds up.

References
----------
C. Canonne, G. Kamath, T. Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020:
the sampler, and what rho is. P. Kairouz, Z. Liu, T. Steinke, "The Distributed Discrete Gaussian
Mechanism for Federated Learning with Secure Aggregation", ICML 2021: sums of such noise are as
good, but for a term that vanishes where each member's deviation is not tiny.
"""

from dataclasses import dataclass
from math import isqrt, log, sqrt
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from chain.types import Digest
from ml_validator.errors import InvalidUpdate, PrivacySpent
from ml_validator.federated.fixed_point import (
    Floats,
    Integers,
    UpdateRules,
    check_norm,
    clipped,
    to_fixed,
)

DEVIATION_MIN: Final = 4
"""Of one member's noise, in units of fixed point; below, sums of it are no longer as good."""

ROOM: Final = 2
"""Times its expected norm, noise has room for under the bound on updates."""

_CHUNK: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How private the sum of a group shall be.

    Parameters
    ----------
    sensitivity : int
        What a member shortens its update to before it adds noise: L2 norm, in fixed point.
    deviation : int
        Standard deviation of the noise in the sum of `threshold` members, in fixed point.
    threshold : int
        How many members at least are in a sum.

    Raises
    ------
    InvalidUpdate
        A member's own noise would be too small.
    """

    sensitivity: int
    deviation: int
    threshold: int

    def __post_init__(self) -> None:
        if self.deviation**2 < self.threshold * DEVIATION_MIN**2:
            raise InvalidUpdate("noise", f"a deviation of {self.deviation} is too small")

    @property
    def member_variance(self) -> int:
        """Variance of the noise that each member adds, rounded up."""
        return -(-(self.deviation**2) // self.threshold)

    @property
    def rho(self) -> float:
        """What one federated round spends, as zero-concentrated differential privacy."""
        return self.sensitivity**2 / (2 * self.deviation**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyLedger:
    """What has been spent on one model, over all federated rounds that made it.

    Parameters
    ----------
    delta : float
        Chance with which the guarantee may fail; well below one over the number of participants.
    epsilon_max : float
        What may be spent.
    spent : tuple of (Digest, float)
        Rounds with their rho.
    """

    delta: float
    epsilon_max: float
    spent: tuple[tuple[Digest, float], ...] = ()

    @property
    def epsilon(self) -> float:
        """What has been spent so far: rho + 2 √(rho log(1 / delta))."""
        rho = sum(rho for _, rho in self.spent)
        return rho + 2 * sqrt(rho * log(1 / self.delta))

    def spend(self, round_id: Digest, noise: Noise) -> "PrivacyLedger":
        """Return the ledger with one more round; a round that is in it already costs nothing.

        Raises
        ------
        PrivacySpent
            It would exceed what may be spent; take no part in that round.
        """
        if any(known == round_id for known, _ in self.spent):
            return self
        after = PrivacyLedger(
            delta=self.delta,
            epsilon_max=self.epsilon_max,
            spent=(*self.spent, (round_id, noise.rho)),
        )
        if after.epsilon > self.epsilon_max:
            raise PrivacySpent(after.epsilon, self.epsilon_max)
        return after


def prepared_privately(
    values: Floats, *, rules: UpdateRules, noise: Noise, seed: bytes
) -> Integers:
    """Return what a participant sends: rounded, shortened to the sensitivity, with noise.

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
    room = ROOM * (isqrt(rules.parameters * noise.member_variance) + 1)
    if noise.sensitivity + room > rules.norm_max:
        raise InvalidUpdate(
            "noise", f"{noise.sensitivity} and room of {room} exceed {rules.norm_max}"
        )
    update = clipped(to_fixed(values, rules=rules), noise.sensitivity)
    bits = _Bits(seed)
    drawn = [_gaussian(noise.member_variance, bits) for _ in range(rules.parameters)]
    private: Integers = update + np.array(drawn, np.int64)
    check_norm(private, norm_max=rules.norm_max)
    return private


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
