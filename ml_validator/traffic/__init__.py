"""From captures and logs of real traffic to the flows that models of NSL-KDD read."""
