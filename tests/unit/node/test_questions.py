"""Questions to peers: one of a kind at a time, whatever sessions do meanwhile."""

import asyncio

from chain.types import Height
from node.protocol import GET_DECIDED, DecidedAnswer, GetDecided
from node.questions import Questions
from tests.unit.node.fakes import Wire, address, simulated

A = address(1)


def answer(height):
    return DecidedAnswer(height=Height(height), found=None)


@simulated
async def test_a_session_that_is_replaced_as_an_answer_comes_mixes_no_questions():
    """A peer chooses when it leaves and comes back; no such moment may end the node."""
    wire = Wire(A)
    questions = Questions(wire)
    asked = [
        asyncio.ensure_future(questions.ask(A, GetDecided(height=Height(height))))
        for height in (1, 2)
    ]
    await asyncio.sleep(0.01)

    # The second question has its turn, and has not begun, when the end of the session is told.
    questions.on_answer(A, answer(1))
    asyncio.get_running_loop().call_soon(questions.on_disconnected, A)
    await asyncio.sleep(0)
    asked.append(asyncio.ensure_future(questions.ask(A, GetDecided(height=Height(3)))))
    for height in (2, 3):
        await asyncio.sleep(0.01)
        questions.on_answer(A, answer(height))

    assert await asyncio.gather(*asked) == [answer(1), answer(2), answer(3)]
    assert [body.height for _, body in wire.take(GET_DECIDED)] == [1, 2, 3]
