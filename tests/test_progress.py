import io
from collections.abc import Callable

import pytest

from batchgen.progress import StepProgress


def test_without_a_terminal_a_step_is_one_plain_line() -> None:
    said: list[str] = []

    with StepProgress(said.append).meter("downloading", 100, "B") as meter:
        for amount in range(0, 101, 10):
            meter.reached(amount)

    assert said == ["downloading"]


def test_on_a_terminal_a_step_is_a_bar_and_no_line() -> None:
    said: list[str] = []
    terminal = io.StringIO()

    with StepProgress(said.append, terminal).meter("converting", 4, "step") as meter:
        meter.reached(2, "reading")

    assert said == []
    assert "converting" in terminal.getvalue()
    assert "2/4" in terminal.getvalue()
    assert "reading" in terminal.getvalue()


@pytest.mark.parametrize(
    "amounts", [(150,), (50, 20), (-5,)], ids=["too much", "backwards", "negative"]
)
def test_a_bar_never_leaves_its_range(amounts: tuple[int, ...]) -> None:
    terminal = io.StringIO()

    with StepProgress(terminal=terminal).meter("downloading", 100, "step") as meter:
        for amount in amounts:
            meter.reached(amount)

    assert "101/100" not in terminal.getvalue()
    assert "-" not in terminal.getvalue().replace("it/s", "")


def test_a_bar_is_closed_when_the_step_fails() -> None:
    terminal = io.StringIO()

    def fail(reached: Callable[[int], None]) -> None:
        reached(1)
        raise ValueError("of the step")

    with (
        pytest.raises(ValueError, match="of the step"),
        StepProgress(terminal=terminal).meter("x", 2, "step") as meter,
    ):
        fail(meter.reached)

    assert terminal.getvalue().endswith("\r")
