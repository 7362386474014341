"""The command line: a thin client of the RPC, and the launcher of nodes and test networks."""
