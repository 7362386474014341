"""What the golden vectors hold, by subject; `scripts.make_vectors` writes them."""
