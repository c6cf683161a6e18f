"""What bodies and streams hold has a limit: bodies are refused there, streams wait."""

import asyncio

import pytest

from serving.errors import RequestError
from serving.held import STREAM_FREE_BYTES, Held

MIB = 1 << 20


def test_bodies_beyond_what_memory_is_for_are_refused() -> None:
    held = Held(100, lambda over: 10 * over)
    with held.body() as one, held.body() as other:
        one(60)
        with pytest.raises(RequestError) as refused:
            other(41)
        other(40)
        assert (refused.value.status, held.bytes) == (429, 100)
        assert refused.value.headers["Retry-After"] == "10"  # one byte over
    assert held.bytes == 0


async def turns() -> None:
    """Let all tasks go as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_streams_together_hold_half_of_the_limit_and_wait_for_more() -> None:
    async def run() -> None:
        held = Held(8 * MIB, lambda over: over)
        with held.stream() as first, held.stream() as second, held.stream() as third:
            await first.take(3 * MIB)
            waiting = [asyncio.create_task(stream.take(2 * MIB)) for stream in (second, third)]
            await turns()
            assert [task.done() for task in waiting] == [False, False]
            assert held.bytes == 3 * MIB - STREAM_FREE_BYTES
            with held.body() as body:
                body(4 * MIB)  # the other half is not theirs
            first.give(2 * MIB)
            await turns()
            assert [task.done() for task in waiting] == [True, False]  # first come, first served
            first.give(1 * MIB)
            await turns()
            assert waiting[1].done()
        assert held.bytes == 0

    asyncio.run(run())


def test_a_stream_of_short_lines_waits_for_none_of_long_ones() -> None:
    async def run() -> None:
        held = Held(8 * MIB, lambda over: over)
        with held.stream() as large, held.stream() as blocked, held.stream() as short:
            await large.take(4 * MIB + STREAM_FREE_BYTES)
            waiting = asyncio.create_task(blocked.take(MIB))
            await turns()
            for _ in range(3):
                await asyncio.wait_for(short.take(STREAM_FREE_BYTES), 10)
                beyond = asyncio.create_task(short.take(1))
                await turns()
                assert not beyond.done()
                short.give(1)  # by which it needs no room for what it waits for
                await asyncio.wait_for(beyond, 10)
                short.give(STREAM_FREE_BYTES)
            assert not waiting.done()
            waiting.cancel()

    asyncio.run(run())


def test_one_stream_alone_finds_room_for_a_line_of_any_length() -> None:
    async def run() -> None:
        held = Held(MIB, lambda over: over)
        with held.body() as body, held.stream() as stream:
            body(MIB)
            for _ in range(16):
                await asyncio.wait_for(stream.take(MIB), 10)
        assert held.bytes == 0

    asyncio.run(run())


def test_a_stream_that_leaves_while_it_waits_takes_nothing_along() -> None:
    async def run() -> None:
        held = Held(4 * MIB, lambda over: over)
        with held.stream() as first, held.stream() as leaves, held.stream() as stays:
            await first.take(2 * MIB + STREAM_FREE_BYTES)
            waiting = [asyncio.create_task(stream.take(MIB)) for stream in (leaves, stays)]
            await turns()
            first.give(2 * MIB)
            waiting[0].cancel()  # in the moment in which it is given room
            await asyncio.wait(waiting)
            assert waiting[0].cancelled()
            assert (leaves.bytes, stays.bytes) == (0, MIB)
        assert held.bytes == 0

    asyncio.run(run())
