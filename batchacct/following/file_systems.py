"""Which file systems tell of every change: on the others inotify is silent about what other hosts write.

inotify(7): events come of what programs on this host do through the file system; what another host does on a network file system
is not seen. A list of those where everything is seen, and not of those where it is not: one that nobody thought of is polled,
which costs a little, where the other mistake would cost records. They are those that GNU `tail` follows by inotify (coreutils,
src/stat.c, `human_fstype`: "local"; overlay, fuse, nfs, cifs, afs, ceph, lustre, gpfs, ocfs2 and vxfs are "remote" there), as far
as logs may lie on one, under their names in proc(5) mountinfo. bcachefs is younger than that list.
"""

from __future__ import annotations

from pathlib import Path

LOCAL = frozenset(
    {"bcachefs", "btrfs", "devtmpfs", "ext2", "ext3", "ext4", "f2fs", "hfsplus", "jffs2", "jfs", "nilfs2",
     "ramfs", "reiserfs", "tmpfs", "ubifs", "udf", "ufs", "vfat", "xfs", "zfs"}
)  # fmt: skip


def sees_every_change(kind: str) -> bool:
    """Whether inotify on a file system of this kind, as mountinfo names it, tells of whatever is written there."""
    return kind in LOCAL


def kind_of(handle: int) -> str:
    """The kind of file system on which an open file or folder lies; it is not asked, so that a dead server is not waited for.

    Raises: OSError if /proc is not there.
    """
    about = Path(f"/proc/self/fdinfo/{handle}").read_text(encoding="ascii")
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return kind_of_mount(mounts, mount_id(about))


def mount_id(fdinfo: str) -> int:
    """The number of the mount on which an open file lies, from its /proc/PID/fdinfo."""
    return int(fdinfo.split("mnt_id:", 1)[1].split(maxsplit=1)[0])


def kind_of_mount(mountinfo: str, number: int) -> str:
    """The kind of the mount of this number in a text of proc(5) mountinfo; "unknown" if it is not there any more.

    A line is: number, parent, device, root, mount point, options, any count of optional fields, a hyphen, the kind, and more.
    """
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if fields[0] == str(number):
            return fields[fields.index("-", 6) + 1]
    return "unknown"
