"""Spans are charged to the recorder that listens, and to nobody else."""

from __future__ import annotations

from time import sleep

import pytest

from hvqbench.timing import record, span


def test_spans_of_one_name_add_up_and_nested_ones_count_for_both() -> None:
    with record() as seconds, span("outer"):
        for _ in range(2):
            with span("inner"):
                sleep(0.01)
        sleep(0.01)
    assert 0.02 <= seconds["inner"] <= seconds["outer"] - 0.01


def test_without_a_recorder_nothing_is_kept() -> None:
    with record() as seconds:
        pass
    with span("late"):
        pass
    assert seconds == {}


def test_the_innermost_recorder_listens_and_a_failure_is_charged_too() -> None:
    with record() as outer:
        with pytest.raises(KeyError), record() as inner, span("failing"):
            raise KeyError
        with span("after"):
            pass
    assert list(inner) == ["failing"]
    assert list(outer) == ["after"]
