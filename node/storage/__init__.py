"""What a node keeps on disk: an ordered map, an append-only log, and the locks on both."""
