"""All checks of `batchgen doctor`, in the order in which they are printed."""

from collections.abc import Callable, Iterator

from batchgen.doctor.finding import Finding
from batchgen.doctor.job_checks import check_job
from batchgen.doctor.machine_checks import (
    check_kernels,
    check_memory,
    check_processor,
    check_python,
    check_torch,
)
from batchgen.doctor.model_checks import check_hub, check_models
from batchgen.doctor.package_checks import check_engines, check_extras, check_libraries
from batchgen.doctor.storage_checks import check_caches
from batchgen.jobfile.load import LoadedJob

CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_processor,
    check_memory,
    check_torch,
    check_kernels,
    check_libraries,
    check_extras,
    check_engines,
    check_caches,
    check_hub,
    check_models,
)


def examine(load: Callable[[], LoadedJob] | None = None) -> Iterator[Finding]:
    """Yield what is found about this machine, then about the job that `load` loads."""
    hub_reachable = False
    for check in CHECKS:
        for finding in check():
            hub_reachable |= (finding.topic, finding.status) == ("hub", "ok")
            yield finding
    if load is not None:
        yield from check_job(load, hub_reachable=hub_reachable)
