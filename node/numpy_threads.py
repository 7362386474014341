"""How many threads numpy takes in the processes of a node: one.

A node spreads its work over threads of its own. Those that numpy would add for products of matrices
wait for each other, and where several nodes share a machine they hardly get on. numpy reads the
environment when it is loaded.
"""

from typing import Final

NUMPY_THREADS: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
