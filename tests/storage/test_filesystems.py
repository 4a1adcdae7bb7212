"""The mount of a folder, and filesystems on which a write-ahead log is unsafe."""

from pathlib import Path

import pytest

from batchgen.storage.filesystems import Filesystem, filesystem_of

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /home rw,relatime shared:9 - nfs4 server:/home rw,vers=4.2
31 30 0:27 / /home/me/scratch rw - xfs /dev/sdb rw
32 22 0:28 / /mnt/with\\040blank rw master:1 propagate_from:2 - fuse.sshfs me@host: rw
33 22 0:29 / /over rw - ext4 /dev/sdc rw
34 33 0:30 / /over rw - lustre mds@tcp:/scratch rw
"""


@pytest.mark.parametrize(
    ("folder", "kind", "shared"),
    [
        ("/var/out", "ext4", False),
        ("/home/me/out", "nfs4", True),
        ("/home/me/scratch/out", "xfs", False),
        ("/home/me/scratchy", "nfs4", True),
        ("/homes", "ext4", False),
        ("/mnt/with blank/out", "fuse.sshfs", True),
        ("/over/out", "lustre", True),
    ],
)
def test_the_innermost_and_last_mount_is_used(
    tmp_path: Path, folder: str, kind: str, shared: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    found = filesystem_of(Path(folder), mounts)
    assert (found.type, found.shared) == (kind, shared)


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        ("ext4", False),
        ("tmpfs", False),
        ("overlay", False),
        ("zfs", False),
        ("fuseblk", False),
        ("fuse.fuse-overlayfs", False),
        ("fuse.s3fs", True),
        ("fuse", True),
        ("cifs", True),
        ("9p", True),
        ("virtiofs", True),
        ("gpfs", True),
        ("", False),
    ],
)
def test_network_and_user_space_filesystems_are_shared(kind: str, shared: bool) -> None:
    assert Filesystem(kind, "/").shared is shared


def test_a_filesystem_of_unknown_type_is_local(tmp_path: Path) -> None:
    assert filesystem_of(tmp_path, tmp_path / "none") == Filesystem("", "")


def test_the_mount_table_of_this_machine_is_read(tmp_path: Path) -> None:
    assert filesystem_of(tmp_path).type
