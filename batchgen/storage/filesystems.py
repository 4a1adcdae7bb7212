"""Type of the filesystem of a folder, and whether SQLite's write-ahead log is safe on it.

The log needs shared memory and reliable locks; network filesystems guarantee neither (sqlite.org/wal.html,
sqlite.org/howtocorrupt.html).
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""The mount table of Linux; see proc_pid_mountinfo(5)."""

_SHARED = frozenset([
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "lustre",
    "gpfs", "beegfs", "orangefs", "pvfs2", "glusterfs", "gfs2", "ocfs2", "9p", "virtiofs", "vboxsf",
    "prl_fs", "fuse",
])  # fmt: skip
_LOCAL_FUSE = frozenset(["fuse.fuse-overlayfs"])


@dataclass(frozen=True, slots=True)
class Filesystem:
    """The mount of a folder; `type` is empty if it is unknown."""

    type: str
    mounted_at: str

    @property
    def shared(self) -> bool:
        """Whether the filesystem is on a network or in user space."""
        if self.type.startswith("fuse."):
            return self.type not in _LOCAL_FUSE
        return self.type in _SHARED


def filesystem_of(folder: Path, mounts: Path = MOUNTS) -> Filesystem:
    """The mount of an existing folder; the last one, if several have the same mount point."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return Filesystem("", "")
    path = os.path.realpath(folder)
    result = Filesystem("", "")
    for line in lines:
        before, _, after = line.partition(" - ")
        # Blanks in a mount point are octal escapes.
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), before.split(" ")[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(result.mounted_at):
            result = Filesystem(after.split(" ")[0], point)
    return result
