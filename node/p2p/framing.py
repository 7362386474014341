"""Frames on a stream of bytes: messages in and out, without any socket.

A frame is ``length: u32 big-endian ‖ kind: u8 ‖ payload``. Urgent messages (kinds below 16) are one
frame. Bulk messages are cut into fragments of 64 KiB, all but the last with the top bit of the
length set, so that an urgent frame never waits behind more than one fragment. docs/spec/p2p.md,
"Frames".
"""

from collections import deque
from collections.abc import Iterator, Mapping
from struct import Struct
from typing import Final, Literal

from node.p2p.errors import MalformedFrame, PayloadTooLarge, UnknownKind
from node.p2p.limits import URGENT_KINDS_END

FRAGMENT_SIZE: Final = 64 * 1024
MORE_FLAG: Final = 1 << 31
HEADER: Final = Struct(">IB")

Lane = Literal["urgent", "bulk"]


def lane_of(kind: int) -> Lane:
    """Return the lane that messages of `kind` travel in; order holds within a lane."""
    return "urgent" if kind < URGENT_KINDS_END else "bulk"


class FrameDecoder:
    """Cuts a stream of bytes into messages and refuses what is above a limit.

    Parameters
    ----------
    limits : mapping of int to int
        Largest payload of each kind that is accepted now; may be replaced between messages.

    Notes
    -----
    What is held never exceeds one urgent frame, one fragment and the bulk message that is being
    put together: each header is judged before anything behind it is kept.
    """

    __slots__ = ("_bulk_kind", "_bulk_size", "_chunks", "_fragments", "_held", "_needed", "limits")

    def __init__(self, limits: Mapping[int, int]) -> None:
        self.limits = limits
        self._chunks: list[bytes] = []
        self._held = 0
        self._needed = HEADER.size
        self._fragments: list[bytes] = []
        self._bulk_kind = 0
        self._bulk_size = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take `data` and yield the messages it completes, as (kind, payload).

        The iterator has to be exhausted before the next call, unless the stream is given up.

        Raises
        ------
        node.p2p.errors.FrameError
            The stream is not worth reading on: nothing after an error has a meaning.
        """
        self._chunks.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return
        data = b"".join(self._chunks) if len(self._chunks) > 1 else data
        unpack = HEADER.unpack_from
        position = 0
        while True:
            start = position + HEADER.size
            if start > self._held:
                self._needed = HEADER.size
                break
            word, kind = unpack(data, position)
            size = word & ~MORE_FLAG
            self._check(kind, size, more=word != size)
            stop = start + size
            if stop > self._held:
                self._needed = HEADER.size + size
                break
            position = stop
            payload = data[start:stop]
            if word != size:
                self._fragments.append(payload)
                self._bulk_kind = kind
                self._bulk_size += size
            elif self._fragments and kind >= URGENT_KINDS_END:
                self._fragments.append(payload)
                payload = b"".join(self._fragments)
                self._fragments = []
                self._bulk_size = 0
                yield kind, payload
            else:
                yield kind, payload
        self._chunks = [data[position:]]
        self._held -= position

    def _check(self, kind: int, size: int, *, more: bool) -> None:
        """Judge a header alone; one message has one sequence of frames."""
        limit = self.limits.get(kind)
        if limit is None:
            raise UnknownKind(kind, size)
        if kind < URGENT_KINDS_END:
            if more:
                raise MalformedFrame(kind, size)
        else:
            if self._fragments and (kind != self._bulk_kind or not size):
                raise MalformedFrame(kind, size)
            if size != FRAGMENT_SIZE if more else size > FRAGMENT_SIZE:
                raise MalformedFrame(kind, size)
            # A further byte is still to come, else the last fragment would say so.
            size += self._bulk_size + more
        if size > limit:
            raise PayloadTooLarge(kind, size)


class FrameEncoder:
    """Queues messages for one peer and cuts them into frames, urgent ones first.

    Parameters
    ----------
    urgent_size_max, bulk_size_max : int
        Bytes that each lane may hold. At the bound `put` refuses; lanes never displace each other.
    """

    __slots__ = ("_bulk", "_bulk_offset", "_bulk_room", "_urgent", "_urgent_room")

    def __init__(self, *, urgent_size_max: int, bulk_size_max: int) -> None:
        self._urgent: deque[bytes] = deque()
        self._urgent_room = urgent_size_max
        self._bulk: deque[tuple[int, bytes]] = deque()
        self._bulk_room = bulk_size_max
        self._bulk_offset = 0

    def put(self, kind: int, payload: bytes) -> bool:
        """Queue one message; False where its lane has no room."""
        size = len(payload) + HEADER.size
        if kind < URGENT_KINDS_END:
            if size > self._urgent_room:
                return False
            self._urgent_room -= size
            self._urgent.append(HEADER.pack(len(payload), kind) + payload)
        else:
            if size > self._bulk_room:
                return False
            self._bulk_room -= size
            self._bulk.append((kind, payload))
        return True

    def take(self, size: int) -> bytes:
        """Remove and return whole frames, ending with the one that reaches `size` bytes."""
        frames = []
        room = size
        while room > 0 and self._urgent:
            frame = self._urgent.popleft()
            self._urgent_room += len(frame)
            room -= len(frame)
            frames.append(frame)
        while room > 0 and self._bulk:
            frame = self._next_fragment()
            room -= len(frame)
            frames.append(frame)
        return b"".join(frames)

    def _next_fragment(self) -> bytes:
        kind, payload = self._bulk[0]
        start = self._bulk_offset
        rest = len(payload) - start
        if rest > FRAGMENT_SIZE:
            self._bulk_offset += FRAGMENT_SIZE
            header = HEADER.pack(FRAGMENT_SIZE | MORE_FLAG, kind)
            return header + payload[start : start + FRAGMENT_SIZE]
        self._bulk.popleft()
        self._bulk_room += len(payload) + HEADER.size
        self._bulk_offset = 0
        return HEADER.pack(rest, kind) + (payload[start:] if start else payload)
