"""Which file system a path lies on: this machine's own disk, or one that other machines write to as well."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
#: File systems of one machine. Any other may be shared: nfs, cifs, 9p, virtiofs, lustre, fuse.sshfs …
LOCAL = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs", "reiserfs", "overlay", "aufs", "tmpfs"),
    *("ramfs", "vfat", "exfat", "ntfs", "ntfs3", "fuseblk", "fuse.fuse-overlayfs", "hfsplus", "apfs", "ufs"),
}


def file_system(path: Path) -> str | None:
    """The type of the file system of a path, such as "ext4"; None where the system does not say."""
    try:
        lines = MOUNTS.read_text(errors="replace").splitlines()
        place = os.path.realpath(path)
    except OSError:
        return None
    found, longest = None, -1
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[1])  # \040 is a space
        inside = mount == "/" or place == mount or place.startswith(mount + "/")
        if inside and len(mount) >= longest:  # of two at one place the later one is seen
            found, longest = fields[2], len(mount)
    return found


def is_local(path: Path) -> bool:
    """Whether a path lies on a disk of this machine; also where the system does not say."""
    return file_system(path) in {None, *LOCAL}


def disk_is_full(path: Path) -> bool:
    """Whether the disk of a path has no room for even a small file."""
    with suppress(OSError):
        return shutil.disk_usage(path).free < 100_000
    return False
