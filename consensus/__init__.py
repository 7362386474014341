"""Agreement on one block for each height: PBFT as a sans-IO state machine.

A driver feeds events to `consensus.replica.Replica.step` and obeys the `consensus.output.Output` it
returns. docs/spec/consensus.md and docs/spec/round_change.md are normative.
"""
