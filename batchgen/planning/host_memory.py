"""Free memory of this machine in bytes, control groups included."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


def free_host_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can still allocate: free memory of the machine, limited by its control groups.

    Reads MemAvailable of /proc/meminfo and the memory limits of cgroup v1 and v2, of this process's group and
    of every group above it. Reclaimable page cache counts as free. Without /proc, all physical memory counts as
    free.

    Args:
        root: folder of /proc and /sys, for tests.
    """
    available = _keyed(root / "proc/meminfo").get("MemAvailable:")
    free = _physical() if available is None else available * 1024
    return max(0, min([free, *_cgroup_free_bytes(root)]))


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(frozen=True, slots=True)
class _GroupFiles:
    """Names of the files of one cgroup version."""

    mount: str
    limit: str
    used: str
    reclaimable: str


_V1 = _GroupFiles(
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)


_V2 = _GroupFiles("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def _cgroup_free_bytes(root: Path) -> Iterator[int]:
    # Lines are "4:memory:/path" in version 1 and "0::/path" in version 2; a machine may have both.
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
        # Inside a container the path is often that of the host and absent here; the mount itself is then the group.
        for folder in [group, *group.parents]:
            if folder.is_relative_to(mount):
                yield from _cgroup_free_at(folder, files)


def _cgroup_free_at(folder: Path, files: _GroupFiles) -> Iterator[int]:
    limit, used = _read(folder / files.limit).strip(), _read(folder / files.used).strip()
    if limit.isdigit() and used.isdigit():
        reclaimable = _keyed(folder / "memory.stat").get(files.reclaimable, 0)
        yield int(limit) - int(used) + reclaimable


def _keyed(file: Path) -> dict[str, int]:
    """Lines of "name number ..." as a mapping."""
    words = (line.split() for line in _read(file).splitlines())
    return {w[0]: int(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}


def _read(file: Path) -> str:
    # A group without a limit has no such file, a container may hide it, and other systems have neither.
    try:
        return file.read_text("utf-8")
    except OSError:
        return ""
