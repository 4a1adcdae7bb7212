"""The checks of all runs of a matrix before the first row is answered: those of `batchgen validate`."""

from collections.abc import Sequence

from batchgen.errors import BatchgenError, JobFileError
from batchgen.jobfile.layers import job_file_error
from batchgen.jobfile.load import LoadedJob
from batchgen.jobfile.matrix.load_matrix import LoadedMatrix, named_problems
from batchgen.models.local_adapter import check_adapters_on_disk
from batchgen.models.local_model import require_pin
from batchgen.run.preflight.context_check import check_answer_length_on_disk
from batchgen.run.preflight.input_check import CheckedInput, check_input
from batchgen.run.preflight.weights_check import check_weights_on_disk


def check_job_on_disk(loaded: LoadedJob) -> CheckedInput:
    """Check columns, templates, and the files of the model, without loading it.

    Raises:
        BatchgenError: the run could not start.
    """
    require_pin(loaded)
    checked = check_input(loaded)
    check_answer_length_on_disk(loaded)
    check_weights_on_disk(loaded)
    check_adapters_on_disk(loaded)
    return checked


def check_combinations(matrix: LoadedMatrix) -> list[CheckedInput]:
    """Check all runs of a matrix.

    Raises:
        BatchgenError: some could not start: a JobFileError with the problems of all, or the first other error.
    """
    checked: list[CheckedInput] = []
    errors: list[tuple[str, BatchgenError | None]] = []
    for one in matrix.combinations:
        try:
            checked.append(check_job_on_disk(one.loaded))
            errors.append((one.title, None))
        except BatchgenError as error:
            errors.append((one.title, error))
    if any(error is not None for _, error in errors):
        raise _combined(errors, matrix)
    return checked


def _combined(
    errors: Sequence[tuple[str, BatchgenError | None]], matrix: LoadedMatrix
) -> BatchgenError:
    problems = [
        (title, error.problems if isinstance(error, JobFileError) else ())
        for title, error in errors
    ]
    if named := named_problems(problems):
        return job_file_error(named, matrix.first.texts)
    title, first = next((title, error) for title, error in errors if error is not None)
    if not all(error is not None and error.message == first.message for _, error in errors):
        first.message = f"combination {title}: {first.message}"
    return first
