"""Hours of full load on a network of real processes: nothing may grow that has no reason to."""
