"""Free memory of this machine, limits of control groups and of the process included."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchgen.planning.address_space import free_address_space


def free_host_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can still allocate.

    The minimum of MemAvailable of /proc/meminfo, the free memory of each cgroup (v1 or v2) that this process is in, and
    the address space that it may still use.
    Reclaimable page cache counts as free. Without /proc, all physical memory counts as free.

    Args:
        root: the folder that contains proc and sys.
    """
    available = _keyed(root / "proc/meminfo").get("MemAvailable:")
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = physical if available is None else available * 1024
    limited = free_address_space(root)
    return max(0, min([free, *_cgroup_free_bytes(root), *([] if limited is None else [limited])]))


@dataclass(frozen=True, slots=True)
class _GroupFiles:
    """File names of one cgroup version; `reclaimable` is a key of memory.stat."""

    mount: str
    limit: str
    used: str
    reclaimable: str


_V1 = _GroupFiles(
    "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
)
_V2 = _GroupFiles("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def _cgroup_free_bytes(root: Path) -> Iterator[int]:
    # A line is "4:memory:/path" in version 1 and "0::/path" in version 2; a machine may have both.
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            files = _V2
        elif "memory" in controllers.split(","):
            files = _V1
        else:
            continue
        mount = root / files.mount
        group = mount / path.strip("/")
        # In a container the path is often the host's and does not exist; then the mount itself is the group.
        for folder in [group, *group.parents]:
            limit, used = _read(folder / files.limit).strip(), _read(folder / files.used).strip()
            if folder.is_relative_to(mount) and limit.isdigit() and used.isdigit():
                reclaimable = _keyed(folder / "memory.stat").get(files.reclaimable, 0)
                yield int(limit) - int(used) + reclaimable


def _keyed(file: Path) -> dict[str, int]:
    # Each line is "name number ...".
    words = (line.split() for line in _read(file).splitlines())
    return {w[0]: int(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}


def _read(file: Path) -> str:
    # The file is absent in a group without a limit, in some containers, and on other systems.
    try:
        return file.read_text("utf-8")
    except OSError:
        return ""
