"""Everything that can be told about a tree but its times, also of one that belongs to subordinate ids."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from support.users import User, myself

SCRIPT = r"""
import hashlib, json, os, stat, sys
top, found, first = os.fsencode(sys.argv[1]), {}, {}
def look(path):
    at = os.lstat(path)
    kind = stat.S_IFMT(at.st_mode)
    facts = [oct(at.st_mode), at.st_uid, at.st_gid]
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            facts.append(hashlib.sha256(file.read()).hexdigest())
    if kind == stat.S_IFLNK:
        facts.append(os.fsdecode(os.readlink(path)))
    names = os.listxattr(path, follow_symlinks=False)
    facts.append({name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names})
    name = os.fsdecode(path[len(top):])
    if kind != stat.S_IFDIR:
        facts.append(first.setdefault(at.st_ino, name))
    found[name] = facts
    if kind == stat.S_IFDIR:
        for entry in sorted(os.listdir(path)):
            look(path + b"/" + entry)
look(top)
print(json.dumps(found))
"""


def listing(top: Path, user: User | None = None) -> dict[str, Any]:
    """Path → mode, owner, group, content or target, extended attributes, and the first name of the same file.

    Owners of an ordinary user's tree are those inside that user's namespace.
    """
    inside = ("unshare", "--map-root-user", "--map-auto") if (user and user.ids) or os.getuid() else ()
    done = (user or myself()).run(*inside, "/usr/bin/python3", "-c", SCRIPT, top)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
