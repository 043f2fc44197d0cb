"""Between threads: what is dropped has a name and a number, what may not be dropped is not."""

from __future__ import annotations

import os
import select
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_inspector.errors import OutboxFull
from edge_inspector.mailbox import FramePool, Intake, Outbox, Shelf
from edge_inspector.types import Frame, Shot

SHOT = Shot(1)


def test_pool_is_fixed() -> None:
    """A pool gives what it has, then None, and never the same buffer twice."""
    pool = FramePool(3, (4, 6))
    taken = [pool.take() for _ in range(3)]
    assert pool.take() is None
    assert len({id(pixels) for pixels in taken}) == 3
    assert all(p is not None and p.shape == (4, 6, 3) and p.dtype == np.uint8 for p in taken)
    assert len(pool) == 0


def test_frame_comes_back_once() -> None:
    """Leaving the `with` gives the buffer back; giving it back again does not make a second one of it."""
    pool = FramePool(1, (4, 6))
    pixels = pool.take()
    assert pixels is not None
    frame = pool.frame(pixels, SHOT)
    with frame:
        assert frame.pixels is pixels
        assert len(pool) == 0
    frame.release()
    assert len(pool) == 1
    assert pool.take() is pixels


def test_frame_comes_back_after_an_error() -> None:
    """An exception inside the `with` does not cost a buffer."""
    pool = FramePool(1, (4, 6))
    pixels = pool.take()
    assert pixels is not None
    with pytest.raises(ZeroDivisionError), pool.frame(pixels, SHOT):
        raise ZeroDivisionError
    assert len(pool) == 1


def test_a_frame_that_is_handed_on_comes_back_once() -> None:
    """By the hand that has it last; the hand before has nothing to give back."""
    pool = FramePool(1, (4, 6))
    pixels = pool.take()
    assert pixels is not None
    told: list[int] = []
    with pool.frame(pixels, SHOT) as frame:
        last = frame.handed_on().handed_on(then=lambda: told.append(len(pool)))
    assert len(pool) == 0
    assert last.pixels is pixels
    last.release()
    last.release()
    frame.release()
    assert len(pool) == 1
    assert told == [1]  # after the buffer is back


def test_a_shelf_never_holds_more_frames_than_places() -> None:
    """Full, it leaves the frame to who has it; a place is free again with its frame's release, put in or not."""
    pool, shelf = FramePool(4, (4, 6)), Shelf[Frame](2)
    frames = [pool.frame(pixels, SHOT) for _ in range(4) if (pixels := pool.take()) is not None]
    first, second = (shelf.place(frame) for frame in frames[:2])
    assert first is not None
    assert second is not None
    assert shelf.place(frames[2]) is None
    for frame in frames:
        frame.release()
    assert len(pool) == 2
    shelf.put(first)
    assert shelf.get(0.0) is first
    assert shelf.get(0.01) is None
    pixels = pool.take()
    assert pixels is not None
    assert shelf.place(pool.frame(pixels, SHOT)) is None
    second.release()
    assert shelf.place(pool.frame(pixels, SHOT)) is not None
    first.release()
    assert len(pool) == 3


def test_frame_goes_to_the_pool_it_came_from() -> None:
    """After a camera has come back with another size, old frames do not get into the new pool."""
    old, new = FramePool(1, (4, 6)), FramePool(1, (8, 8))
    pixels = old.take()
    assert pixels is not None
    old.frame(pixels, SHOT).release()
    assert (len(old), len(new)) == (1, 1)
    fresh = new.take()
    assert fresh is not None
    assert fresh.shape == (8, 8, 3)


def test_pool_serves_many_threads() -> None:
    """Threads that take and give back never hold one buffer at the same time."""
    pool = FramePool(3, (2, 2))
    clashes = []

    def work(mark: int) -> None:
        for _ in range(500):
            pixels = pool.take()
            if pixels is None:
                continue
            with pool.frame(pixels, SHOT):
                pixels[:] = mark
                time.sleep(0)
                if (pixels != mark).any():
                    clashes.append(mark)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []
    assert len(pool) == 3


def test_intake_refuses_when_full() -> None:
    """A full box refuses and keeps what it has; the other stations' boxes are not concerned."""
    intake: Intake[int] = Intake(("a", "b"), capacity=2)
    assert [intake.put("a", n) for n in range(3)] == [True, True, False]
    assert intake.put("b", 9)
    assert len(intake) == 3
    assert [intake.get(0) for _ in range(4)] == [0, 9, 1, None]


def test_intake_takes_stations_in_turn() -> None:
    """A station with a full box does not starve the one whose part comes now and then."""
    intake: Intake[str] = Intake(("busy", "calm", "idle"), capacity=8)
    for n in range(8):
        intake.put("busy", f"busy {n}")
    assert intake.get(0) == "busy 0"
    intake.put("calm", "calm 0")
    assert intake.get(0) == "calm 0"
    assert intake.get(0) == "busy 1"


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=60))
def test_intake_is_fair_and_keeps_order(steps: list[str | None]) -> None:
    """Whatever is put and got in whatever order: each station's items in order, none waits for two of another."""
    intake: Intake[tuple[str, int]] = Intake(("a", "b", "c"), capacity=4)
    waiting: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    passed_over = dict.fromkeys(waiting, 0)
    for n, step in enumerate(steps):
        if step is not None:
            assert intake.put(step, (step, n)) is (len(waiting[step]) < 4)
            waiting[step] = [*waiting[step], n][:4]
            continue
        item = intake.get(0)
        if item is None:
            assert not any(waiting.values())
            continue
        station, number = item
        assert waiting[station].pop(0) == number
        passed_over[station] = 0
        for other, items in waiting.items():
            passed_over[other] = passed_over[other] + 1 if items and other != station else 0
            assert passed_over[other] <= 2
    assert len(intake) == sum(map(len, waiting.values()))


def test_newest_wins_and_is_counted() -> None:
    """The item that lost comes back to its owner, and `skipped` says how many did."""
    intake: Intake[int] = Intake(("a", "b"), capacity=8)
    assert [intake.put_latest("a", n) for n in range(4)] == [None, 0, 1, 2]
    assert intake.skipped == {"a": 3, "b": 0}
    assert [intake.get(0), intake.get(0)] == [3, None]


def test_closed_intake_takes_nothing_in() -> None:
    """After `close` what waits can be had, and what comes stays with its owner."""
    intake: Intake[int] = Intake(("a",), capacity=8)
    intake.put("a", 1)
    intake.close()
    assert not intake.put("a", 2)
    assert [intake.get(5), intake.get(5)] == [1, None]
    assert intake.put_latest("a", 3) == 3


def test_closed_intake_keeps_what_waits() -> None:
    """A frame that comes after `close` does not push out the one that waits: that one is neither returned nor taken."""
    intake: Intake[int] = Intake(("a",), capacity=8)
    intake.put_latest("a", 1)
    intake.close()
    assert intake.put_latest("a", 2) == 2
    assert intake.get(0) == 1
    assert intake.skipped == {"a": 0}


def test_get_wakes_for_an_item_and_for_close() -> None:
    """A reader that waits is woken by what comes, and by the end."""
    for act, expected in ((lambda i: i.put("a", 1), 1), (lambda i: i.close(), None)):
        intake: Intake[int] = Intake(("a",), capacity=8)
        found: list[int | None] = []
        reader = threading.Thread(target=lambda i=intake, f=found: f.append(i.get(30)))
        reader.start()
        time.sleep(0.02)
        act(intake)
        reader.join(5)
        assert not reader.is_alive()
        assert found == [expected]


def test_get_does_not_wait_when_told_so() -> None:
    """With a time of 0 an empty intake answers at once; with another it waits that long."""
    intake: Intake[int] = Intake(("a",), capacity=8)
    began = time.monotonic()
    assert intake.get(0) is None
    assert time.monotonic() - began < 0.02
    assert intake.get(0.05) is None
    assert time.monotonic() - began >= 0.05


def test_room_is_an_empty_box() -> None:
    """A source that can stand still is let go when nothing of its own station waits."""
    intake: Intake[int] = Intake(("a", "b"), capacity=8)
    intake.put("a", 1)
    assert intake.wait_for_room("b", 0)
    assert not intake.wait_for_room("a", 0.01)
    reader = threading.Timer(0.02, intake.get, (0,))
    reader.start()
    assert intake.wait_for_room("a", 5)


def test_outbox_keeps_order_and_rings() -> None:
    """The descriptor is readable when something waits, and silent when everything was drained."""
    outbox: Outbox[int] = Outbox()
    assert outbox.drain() == []
    assert select.select([outbox.fileno()], [], [], 0)[0] == []
    for n in range(5):
        outbox.put(n)
    assert select.select([outbox.fileno()], [], [], 0)[0] == [outbox.fileno()]
    assert outbox.drain() == [0, 1, 2, 3, 4]
    assert select.select([outbox.fileno()], [], [], 0)[0] == []
    outbox.close()


def test_full_outbox_raises_and_keeps_what_it_has() -> None:
    """An outbox never drops: it refuses aloud, and takes again after it was drained."""
    outbox: Outbox[int] = Outbox(capacity=2)
    outbox.put(1)
    outbox.put(2)
    with pytest.raises(OutboxFull, match="2 events wait"):
        outbox.put(3)
    assert outbox.drain() == [1, 2]
    outbox.put(4)
    assert outbox.drain() == [4]
    outbox.close()


def test_outbox_does_not_overhear_what_comes_while_it_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something put at the very moment when the bell is silenced is drained now, or rings again."""
    outbox: Outbox[int] = Outbox()
    outbox.put(1)
    silence = os.eventfd_read

    def put_and_silence(bell: int) -> int:
        outbox.put(2)
        return silence(bell)

    monkeypatch.setattr(os, "eventfd_read", put_and_silence)
    found = outbox.drain()
    rings = bool(select.select([outbox.fileno()], [], [], 0)[0])
    assert found == [1, 2] or rings
    outbox.close()


def test_outbox_loses_nothing_between_threads() -> None:
    """Four producers and a consumer that polls: all arrive, each producer's in order, and no bell is missed."""
    outbox: Outbox[tuple[int, int]] = Outbox()
    each = 3000

    def produce(who: int) -> None:
        for n in range(each):
            outbox.put((who, n))
            if n % 100 == who:
                time.sleep(0.0005)  # so that the outbox runs empty now and then

    producers = [threading.Thread(target=produce, args=(who,)) for who in range(4)]
    for producer in producers:
        producer.start()
    found: list[tuple[int, int]] = []
    poller = select.poll()
    poller.register(outbox.fileno(), select.POLLIN)
    while len(found) < 4 * each:
        assert poller.poll(5000), f"asleep with {len(outbox._items)} waiting"
        found += outbox.drain()
    for producer in producers:
        producer.join()
    for who in range(4):
        assert [n for sender, n in found if sender == who] == list(range(each))
    outbox.close()


def test_how_many_are_taken_before_a_new_one() -> None:
    """Stations take turns, so one that fills its box holds up another by one part only."""
    intake: Intake[str] = Intake(("a", "b", "c"), capacity=8)
    assert intake.ahead_of("a") == 0
    for n in range(5):
        intake.put("a", f"a{n}")
    intake.put("b", "b0")
    for station, wanted in (("a", 6), ("b", 3), ("c", 2)):
        assert intake.ahead_of(station) == wanted
    taken = [intake.get(0.0)]
    assert intake.ahead_of("c") == 1  # it is not the turn of "a" any more
    intake.put("c", "new")
    while (item := intake.get(0.0)) != "new":
        taken.append(item)
    assert sorted(taken) == ["a0", "b0"]
