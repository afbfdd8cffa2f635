"""What is left of a run, beside what it then takes."""

import heapq

import pytest

from twophase.commands.pace import Running, left


def _told(seconds, cores, slots, at):
    """What `left` says after `at` seconds of jobs of one rule that take so many `seconds` alone,
    `slots` at a time on fewer `cores`, and what it then takes. Jobs that share cores share them
    evenly, so all that run are slower by the same factor.
    """
    slower = max(1, slots / cores)
    waiting, running, took, now, told = list(seconds), [], [], 0.0, None
    while waiting or running:
        while waiting and len(running) < slots:
            heapq.heappush(running, (now + slower * waiting.pop(0), now))
        if told is None and running[0][0] > at:
            there = [Running("run", at - began, 0.0) for _, began in running]
            told = left({"run": len(seconds)}, {"run": took}, there, at)
        now, began = heapq.heappop(running)
        took.append(now - began)
    return told, now - at


@pytest.mark.parametrize("slots", [2, 8])
@pytest.mark.parametrize("at", [25, 50, 75])
def test_more_slots_than_cores_are_not_believed(slots, at):
    """Twelve jobs of 16 s each take 96 s on two cores, whatever --cores says."""
    told, takes = _told([16.0] * 12, cores=2, slots=slots, at=at)
    if told is None:
        assert slots == 8  # none has ended yet
    else:
        assert told.seconds == pytest.approx(takes, rel=0.3, abs=5)


def test_a_late_job_is_expected_to_be_as_late_again_and_what_waits_too():
    took, counts = {"run": [1.0]}, {"run": 12}
    for now in (20.0, 40.0):
        there = [Running("run", now, 0.0)] * 8
        found = left(counts, took, there, now)
        # One ended after a second, eight are late by all but that second, three wait.
        late, waits = now - 1, (1 + 8 * (2 * now - 1)) / 9
        assert found.seconds == pytest.approx(max((8 * late + 3 * waits) / 8, waits))
        assert "less" not in str(found) or found.seconds < 60


def test_the_longest_of_what_runs_is_waited_for():
    there = [Running("fork", 10.0, 0.1), *[Running("run", 9.0, 0.0)] * 3]
    found = left({"fork": 1, "run": 5}, {"run": [10.0, 10.0]}, there, 30)
    assert found.seconds == pytest.approx(90)


def test_nothing_is_said_of_what_was_not_seen():
    assert left({"run": 12}, {}, [Running("run", 50.0, 0.0)] * 2, 50) is None
    assert left({"data": 1, "run": 11}, {"data": [1.0]}, [Running("run", 50.0, 0.0)], 51) is None
    assert left({"run": 12}, {"run": [1.0]}, [Running("run", 1.0, 0.0)], 2) is None  # too soon
