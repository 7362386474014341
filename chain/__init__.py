"""What a block is: values, canonical bytes, keys, proofs, Algorithm 1, state transition. Pure."""
