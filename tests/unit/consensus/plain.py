"""The classes under test without their static types.

Tests write plain integers and bytes for heights, rounds and digests; `NewType`s would hide them
among conversions.
"""

from typing import Any

from chain import certificate, crypto
from consensus import durable, events, memory, messages, output, timers

verify: Any = crypto.verify
was_undecided: Any = memory.was_undecided
VoteCertificate: Any = certificate.VoteCertificate
Timing: Any = timers.Timing

Commit: Any = messages.Commit
Prepare: Any = messages.Prepare
PrePrepare: Any = messages.PrePrepare
Proposal: Any = messages.Proposal
RoundChange: Any = messages.RoundChange

Floor: Any = durable.Floor
LostMemory: Any = durable.LostMemory

TellShown: Any = output.TellShown

BlockBuilt: Any = events.BlockBuilt
BlockFetched: Any = events.BlockFetched
HeightSeen: Any = events.HeightSeen
MemoryShown: Any = events.MemoryShown
ProposalChecked: Any = events.ProposalChecked
