"""Overlay mounts: a stack of snapshots below, one new directory above that catches every change."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orca.errors import OrcaError
from orca.events import Performed
from orca.tools import kernel
from orca.tools.command import Command, Runner

OPTION_LIMIT = 4000  # mount(2) takes one page of options
FUSE_WAIT = 5.0
_NO_OVERLAY = (errno.EPERM, errno.ENODEV, errno.EINVAL, errno.ENOSYS)


@dataclass(frozen=True)
class Mounted:
    """A mounted overlay: `root` is the whole file system, `upper` holds what changed.

    With `named_whiteouts` (fuse-overlayfs) files named .wh.… in `upper` are whiteouts.
    """

    root: Path
    upper: Path
    named_whiteouts: bool = False


def fits(directory: Path, lowers: Sequence[Path]) -> bool:
    """May all these directories, named relative to `directory`, be below one overlay?

    The kernel takes 500 of them, mount(2) one page of options; some room is left for the rest of them.
    """
    return len(lowers) <= 490 and sum(len(os.path.relpath(path, directory)) + 1 for path in lowers) < OPTION_LIMIT - 400


class Mounter:
    """Mounts overlays from one thread that has a working directory of its own.

    Lower directories are named relative to it, so that hundreds of them fit into mount's one page
    of options, while the rest of the process stays where it is.
    """

    def __init__(self, directory: Path, runner: Runner) -> None:
        self.directory = directory
        self.runner = runner
        self.fuse = os.environ.get("ORCA_OVERLAY") == "fuse"
        self._executor = ThreadPoolExecutor(1, "mounter", initializer=self._settle)

    def _settle(self) -> None:
        kernel.unshare(kernel.CLONE_FS)
        os.chdir(self.directory)

    def __enter__(self) -> Mounter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._executor.shutdown(wait=False)

    @contextlib.contextmanager
    def overlay(
        self, lowers: Sequence[Path], upper: Path, work: Path, root: Path, step: int | None
    ) -> Iterator[Mounted]:
        """Mount at `root` (an empty directory); `lowers` uppermost first."""
        with contextlib.ExitStack() as stack:
            if not self.fuse:
                self.fuse = not self._executor.submit(self._mount, lowers, upper, work, root, step).result()
            if self.fuse:
                stack.enter_context(self._mount_fuse(lowers, upper, work, root, step))
            stack.callback(kernel.detach, root)
            yield Mounted(root, upper, named_whiteouts=self.fuse)

    def _mount(self, lowers: Sequence[Path], upper: Path, work: Path, root: Path, step: int | None) -> bool:
        """Mount by the kernel; False when it will not have it here."""
        names = [os.path.relpath(path, self.directory) for path in lowers]
        above = [os.path.relpath(path, self.directory) for path in (upper, work)]
        # userxattr: in a user namespace overlay may keep its marks only in user.* attributes.
        # volatile: else every unmount waits until the disk has what the step wrote.
        options = f"lowerdir={':'.join(names)},upperdir={above[0]},workdir={above[1]},userxattr,volatile"
        try:
            kernel.mount("overlay", root, "overlay", 0, options)
        except OSError as error:
            if error.errno in _NO_OVERLAY and Path("/dev/fuse").exists():
                return False
            hint = "orca doctor says what is missing"
            raise OrcaError(f"cannot mount an overlay: {error.strerror}", hint=hint) from error
        # Told with whole paths, so that it means the same from wherever it is typed.
        below = ":".join(str(path) for path in lowers)
        whole = f"lowerdir={below},upperdir={upper},workdir={work},userxattr,volatile"
        argv = ("mount", "-t", "overlay", "overlay", "-o", whole, str(root))
        self.runner.emit(Performed(step, argv, "what the step changes goes to the upper directory"))
        return True

    @contextlib.contextmanager
    def _mount_fuse(
        self, lowers: Sequence[Path], upper: Path, work: Path, root: Path, step: int | None
    ) -> Iterator[None]:
        """The same by fuse-overlayfs, for kernels that let no user namespace mount an overlay."""
        options = f"lowerdir={':'.join(map(str, lowers))},upperdir={upper},workdir={work}"
        command = Command(("fuse-overlayfs", "-f", "-o", options, str(root)), "the kernel has no overlay for us here")
        with self.runner.running(command, step=step) as process:
            deadline = threading.Event()
            before = root.parent.stat().st_dev
            for _ in range(int(FUSE_WAIT / 0.01)):
                if root.stat().st_dev != before:
                    break
                deadline.wait(0.01)
            else:
                raise OrcaError("fuse-overlayfs did not mount", hint="orca doctor says what is missing")
            yield
            kernel.detach(root)
            process.wait()


def copy_attributes(source: os.stat_result, target: Path) -> None:
    """Give a directory the mode, owner and times of another."""
    os.chown(target, source.st_uid, source.st_gid)
    os.chmod(target, stat.S_IMODE(source.st_mode))
    os.utime(target, ns=(source.st_atime_ns, source.st_mtime_ns))


def visible(lowers: Sequence[Path], name: str) -> os.stat_result | None:
    """What a top-level `name` is in a stack of lower directories; None when it is not there."""
    for lower in lowers:
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(lower / name)
            return None if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0 else found
    return None
