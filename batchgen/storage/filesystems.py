"""On what kind of filesystem a folder lies, and whether SQLite's write-ahead log may be trusted there.

The log needs memory that all processes of the machine share and locks that mean something: network filesystems
promise neither (sqlite.org/wal.html, sqlite.org/howtocorrupt.html). Knows nothing of SQLite itself.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""Linux says there what is mounted where; see proc_pid_mountinfo(5)."""

_SHARED = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "coda",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "orangefs",
        "pvfs2",
        "glusterfs",
        "gfs2",
        "ocfs2",
        "9p",
        "virtiofs",
        "vboxsf",
        "prl_fs",
        "fuse",
    ]
)
_LOCAL_FUSE = frozenset(["fuse.fuse-overlayfs"])


@dataclass(frozen=True, slots=True)
class Filesystem:
    """The mount that holds a folder; `type` is empty where the system does not say."""

    type: str
    mounted_at: str

    @property
    def shared(self) -> bool:
        """Whether other machines, or a process in user space, may stand between a write and the disk."""
        if self.type.startswith("fuse."):
            return self.type not in _LOCAL_FUSE
        return self.type in _SHARED


def filesystem_of(folder: Path, mounts: Path = MOUNTS) -> Filesystem:
    """Find the mount that holds an existing folder; the last one mounted over a place is the one seen."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return Filesystem("", "")
    here = os.path.realpath(folder)
    found = Filesystem("", "")
    for line in lines:
        place, kind = _mount(line)
        inside = here == place or here.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(found.mounted_at):
            found = Filesystem(kind, place)
    return found


def _mount(line: str) -> tuple[str, str]:
    """Mount point and type; blanks in the point are written as octal escapes."""
    before, _, after = line.partition(" - ")
    place = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), before.split(" ")[4])
    return place, after.split(" ")[0]
