"""ostree's command lines. Pure: they return `Command`s.

Branches are named as the `atomic` command named them: `ociimage/` and a layer's digest, or an image's name with
whatever a branch cannot hold spelled `_XX`. Written for ostree 2022.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from orca.oci.image import check_digest
from orca.tools.command import Command

PREFIX = "ociimage"
# The same tree always gives the same commit: nothing of this machine, this moment or the branch is in it.
_STEADY = ("--timestamp=@0", "--parent=none", "--no-bindings")


def layer_branch(diff_id: str) -> str:
    """The branch of a layer. Raises ImageError for what is no digest."""
    return f"{PREFIX}/{check_digest(diff_id).removeprefix('sha256:')}"


def image_branch(name: str) -> str:
    """The branch of an image's full name; it is never a layer's, since it has an encoded colon or at sign."""
    return f"{PREFIX}/" + re.sub(rb"[^a-zA-Z0-9.-]", lambda found: b"_%02X" % found[0][0], name.encode()).decode()


def init(repo: Path) -> Command:
    """A new repository. `bare`: files are kept with owner, mode and attributes, so that a checkout is hard links."""
    return Command(("ostree", "init", f"--repo={repo}", "--mode=bare"), "make the OSTree repository")


def commit_layer(repo: Path, diff_id: str) -> Command:
    """A layer's tree from a tar archive on standard input, as the layer's branch."""
    return Command(
        (
            "ostree", "commit", f"--repo={repo}", f"--branch={layer_branch(diff_id)}", *_STEADY,
            "--subject=layer", f"--add-metadata-string=docker.uncompressed_digest={diff_id}",
            "--tree=tar=/dev/stdin",
        ),
        "import the layer: each file becomes an object, which is there once",
    )  # fmt: skip


def commit_image(repo: Path, name: str, digest: str, tree: Path) -> Command:
    """The directory `tree`, which holds manifest and config, as the branch of the image `name`."""
    return Command(
        (
            "ostree", "commit", f"--repo={repo}", f"--branch={image_branch(name)}", *_STEADY,
            "--subject=image", f"--add-metadata-string=docker.digest={digest}",
            "--owner-uid=0", "--owner-gid=0", "--no-xattrs", f"--tree=dir={tree}",
        ),
        "keep manifest and config beside the layers",
    )  # fmt: skip


def checkout(repo: Path, diff_id: str, target: Path, *, copy: bool) -> Command:
    """A layer's tree as the new directory `target`: hard links into the repository, or copies.

    What is a checkout can be made again, so nobody waits for the disk.
    """
    return Command(
        (
            "ostree", "checkout", f"--repo={repo}", "--fsync=false", *(("--force-copy",) if copy else ()),
            layer_branch(diff_id), str(target),
        ),
        "check the layer out" + ("" if copy else ": hard links to the repository's files"),
    )  # fmt: skip


def fsck(repo: Path) -> Command:
    """Check every object of the repository, and that no branch lacks one."""
    return Command(("ostree", "fsck", f"--repo={repo}", "--quiet", "--all"), "check every file in the repository")


def delete_branches(repo: Path, branches: Iterable[str]) -> Command:
    """Forget branches; what only they need stays until `prune`."""
    return Command(("ostree", "refs", f"--repo={repo}", "--delete", *branches), "forget branches that nothing needs")


def prune(repo: Path) -> Command:
    """Delete every object that no branch needs."""
    return Command(("ostree", "prune", f"--repo={repo}", "--refs-only"), "delete objects that no branch needs")


def in_groups(branches: Sequence[str], size: int = 500) -> list[Sequence[str]]:
    """Branches in groups that fit into a command line."""
    return [branches[start : start + size] for start in range(0, len(branches), size)]
