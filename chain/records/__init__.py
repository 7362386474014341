"""What the state holds: the record of each table, with its bytes and its JSON.

A table is an entry of its module. docs/spec/state.md lists them all.
"""
