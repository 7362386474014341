"""Measuring a network through its HTTP RPC: throughput, latency, memory, idleness."""
