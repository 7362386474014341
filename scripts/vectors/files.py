"""Files in chunks for the golden vectors: what is encrypted for whom, and what comes of it."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from chain.blobs import blob_digest
from chain.chunks import PLAIN_CHUNK_SIZE, FileCipher, file_id
from chain.manifests import MANIFEST, make_manifest
from chain.merkle import leaf_hash, root_of_hashes
from chain.reader_keys import ReaderKey


def files() -> list[dict[str, Any]]:
    """Return files whose byte i is i mod 251, encrypted with keys that are known."""
    cases = []
    for size, reader_count, name in (
        (0, 1, None),
        (1, 0, None),
        (PLAIN_CHUNK_SIZE, 2, "messung-ä.csv"),
        (PLAIN_CHUNK_SIZE + 1, 1, "image.png"),
    ):
        drawn: list[bytes] = []
        random = _drawing(f"file of {size}", drawn)
        content_key = sha256(b"content key of %d" % size).digest()
        secrets = [sha256(b"reader %d" % number).digest() for number in range(reader_count)]
        readers = [ReaderKey(secret).public for secret in secrets]
        cipher = FileCipher(content_key, size)
        data = bytes(number % 251 for number in range(size))
        sealed = [
            cipher.seal(index, data[index * PLAIN_CHUNK_SIZE :][:PLAIN_CHUNK_SIZE])
            for index in range(cipher.count)
        ]
        root = root_of_hashes([leaf_hash(chunk) for chunk in sealed])
        manifest = MANIFEST.encode(
            make_manifest(
                content_key, size=size, root=root, readers=readers, name=name, random=random
            )
        )
        cases.append(
            {
                "size": size,
                "content_key": content_key.hex(),
                "file": file_id(content_key).hex(),
                "name": name,
                "readers": [
                    {"private": secret.hex(), "public": public.hex(), "ephemeral": seed.hex()}
                    for secret, public, seed in zip(secrets, readers, drawn, strict=True)
                ],
                "chunks": {
                    "size": sum(map(len, sealed)),
                    "root": root.hex(),
                    "digest": blob_digest(b"".join(sealed)).hex(),
                    "leaves": [leaf_hash(chunk).hex() for chunk in sealed],
                },
                "manifest": manifest.hex(),
                "manifest_digest": blob_digest(manifest).hex(),
            }
        )
    return cases


def _drawing(what: str, drawn: list[bytes]) -> Callable[[int], bytes]:
    """Return a source of bytes that are the same each time; what it gives it adds to `drawn`."""

    def draw(size: int) -> bytes:
        drawn.append(sha256(f"{what}: {len(drawn)}".encode()).digest()[:size])
        return drawn[-1]

    return draw
