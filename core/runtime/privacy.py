"""Whether a file or a folder is safe from other users."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def is_private(status: os.stat_result) -> bool:
    """Whether a file is this user's and only this user can write to it; not known, and granted, off POSIX."""
    return os.name != "posix" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def why_not_private(directory: Path) -> str:
    """A sentence, or "" if only this user can change what the folder holds. Raises: OSError.

    Follows the path from the root, link by link, as the system does.

    Whoever can write to a folder can replace what is in it, except that in a sticky folder only the owner of
    a name can. So: each folder and link must belong to this user or to root, no other user may write to a
    folder unless it is sticky and root's, and the last folder must be this user's own. Off POSIX, where a
    user's folders are private by their access lists, all is granted.
    """
    if os.name != "posix":
        return ""
    user = os.geteuid()
    here, waiting, n_links = Path(directory.anchor), list(reversed(directory.parts[1:])), 0
    while True:
        status = os.lstat(here)
        if status.st_uid not in (0, user):
            return f"{here} belongs to another user (uid {status.st_uid})"
        if stat.S_ISLNK(status.st_mode):
            n_links += 1
            if n_links > 40:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = here.parent / os.readlink(here)
            here, waiting = Path(target.anchor), waiting + list(reversed(target.parts[1:]))
            continue
        is_shared = bool(status.st_mode & 0o022)
        is_sticky = bool(status.st_mode & stat.S_ISVTX) and status.st_uid == 0
        if is_shared and (not waiting or not is_sticky):
            return f"other users can write to {here}; chmod go-w {here}"
        if not waiting:
            break
        part = waiting.pop()
        here = here.parent if part == ".." else here / part
    if status.st_uid != user:
        return f"{here} belongs to another user (uid {status.st_uid})"
    return ""
