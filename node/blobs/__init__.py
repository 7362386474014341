"""Blobs: what the chain names by digest and does not hold itself.

`store` keeps them on the disk, `fetcher` gets them from peers, `files` is the disk.
"""
