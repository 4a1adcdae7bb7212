"""What the runs of a matrix would do, without loading weights."""

from pathlib import Path

from batchgen.jobfile.matrix.load_matrix import LoadedMatrix
from batchgen.progress import SILENT, Reporter
from batchgen.run.matrix.earlier_matrix import check_earlier, earlier_run
from batchgen.run.matrix.matrix_check import check_combinations
from batchgen.run.plan import Plan, plan
from batchgen.state.matrix_record import check_no_run


def plan_matrix(
    matrix: LoadedMatrix,
    prompts: int = 2,
    incremental_from: Path | None = None,
    reporter: Reporter = SILENT,
) -> list[Plan]:
    """The plan of each run; the first one contains `prompts` rendered prompts, the others one.

    Raises:
        BatchgenError: a run could not start.
    """
    check_earlier(incremental_from)
    check_combinations(matrix)
    check_no_run(matrix.folder)
    plans: list[Plan] = []
    for number, one in enumerate(matrix.combinations):
        reporter.begin(f"planning {one.title}")
        earlier = earlier_run(incremental_from, one.name, reporter)
        shown = prompts if number == 0 else min(prompts, 1)
        plans.append(plan(one.loaded, prompts=shown, incremental_from=earlier, reporter=reporter))
    return plans
