"""The time of a run, predicted from runs on a simulated machine whose costs are known."""

import pytest

from batchgen.planning.run_time import AnswerWork, TimedWork, count_steps, predict_seconds

SMALL, LARGE = AnswerWork(400, 700, 64), AnswerWork(20_000, 18_000, 128)
PREFILL, ONE_ROW = AnswerWork(50_000, 300, 2), AnswerWork(40, 500, 500)


def timed(work: AnswerWork, costs: tuple[float, float, float]) -> TimedWork:
    a, b, c = costs
    return TimedWork(work, a * work.prompt_tokens + b * work.new_tokens + c * work.steps)


@pytest.mark.parametrize(
    ("costs", "known", "unknown", "within"),
    [
        pytest.param((2e-3, 2e-3, 0.032), [SMALL], LARGE, 0.01, id="typical, from a short run"),
        pytest.param((2e-3, 3e-3, 0.050), [SMALL], LARGE, 0.25, id="nearly typical"),
        pytest.param((1e-4, 4e-3, 0.010), [LARGE], LARGE, 0.01, id="the same again"),
        pytest.param(
            (1e-3, 4e-3, 0.010),
            [PREFILL, ONE_ROW, LARGE],
            SMALL,
            0.2,
            id="unusual, from three runs",
        ),
    ],
)
def test_the_prediction_is_near_the_truth(
    costs: tuple[float, float, float], known: list[AnswerWork], unknown: AnswerWork, within: float
) -> None:
    found = predict_seconds(unknown, [timed(one, costs) for one in known], "cpu")
    assert found == pytest.approx(timed(unknown, costs).seconds, rel=within)


def test_no_time_is_negative() -> None:
    contradictory = [TimedWork(SMALL, 100.0), TimedWork(LARGE, 1.0)]
    for work in (SMALL, LARGE, PREFILL, ONE_ROW, AnswerWork(1, 1, 1)):
        assert predict_seconds(work, contradictory, "cpu") > 0


def test_a_gpu_reads_its_weights_in_the_time_of_more_tokens() -> None:
    known = [TimedWork(AnswerWork(100, 6400, 64), 1.0)]
    wide = AnswerWork(100, 640_000, 128)
    assert predict_seconds(wide, known, "cuda") < predict_seconds(wide, known, "cpu") / 3


@pytest.mark.parametrize(
    ("answers", "new", "longest", "at_once", "steps"),
    [
        pytest.param(12, 12 * 64, 64, 256, 64, id="all at once"),
        pytest.param(300, 300 * 64, 64, 256, 128, id="two waves"),
        pytest.param(1000, 10_000, 500, 100, 600, id="few are long"),
        pytest.param(5, 50, 10, 1, 50, id="one by one"),
        pytest.param(5, 50, 10, 0, 50, id="unknown"),
    ],
)
def test_steps(answers: int, new: int, longest: int, at_once: int, steps: int) -> None:
    assert count_steps(answers, new, longest, at_once) == steps
