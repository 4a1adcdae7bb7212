"""The limit of the address space (`ulimit -v`), which some shells and schedulers set for a process.

Libraries in other languages do not report that it is exhausted: they abort, interrupt the process or wait for a thread
that was never started. So it is compared with what they need before they are imported.
"""

import os
import sys
from pathlib import Path

from batchgen.errors import ResourceError

DATA_LIBRARIES_BYTES = 2_600_000_000
"""Address space of polars, pyarrow and numpy with their threads: measured on two cores with 2.4 GB, when torch is imported.

With 1.9 GB a run waited for ever in polars; with 1.5 GB it took a sound part for damaged.
"""
TORCH_BYTES = 1_200_000_000
"""Address space of torch, transformers and numba, without a model; measured with 1.0 GB on a CPU. CUDA takes more."""


def address_space_limit() -> int | None:
    """Bytes of address space that this process may have; None without a limit."""
    import resource  # noqa: PLC0415  (POSIX has it, other systems do not)

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def free_address_space(root: Path = Path("/")) -> int | None:
    """Bytes of address space that are left; None without a limit. Without /proc nothing counts as used."""
    limit = address_space_limit()
    return None if limit is None else max(0, limit - _used(root))


def require_address_space(needed: int, user: str) -> None:
    """Check that a limit, if there is one, leaves `needed` bytes for `user`, such as torch.

    Raises:
        ResourceError: it does not.
    """
    free, limit = free_address_space(), address_space_limit()
    if free is not None and limit is not None and free < needed:
        raise ResourceError(
            f"the address space of this process is limited to {limit / 1e9:,.1f} GB, of which {free / 1e9:,.1f} GB "
            f"are left: {user} needs at least {needed / 1e9:,.1f} GB",
            hint="Raise the limit: `ulimit -v unlimited`, or the memory that the scheduler allows this job.",
        )


def require_room_for_torch() -> None:
    """As `require_address_space`, for importing torch; does nothing if it is imported."""
    if "torch" not in sys.modules:
        require_address_space(TORCH_BYTES, "torch")


def _used(root: Path) -> int:
    try:
        pages = (root / "proc/self/statm").read_text("ascii").split()[0]
    except (OSError, IndexError):  # other systems than Linux
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
