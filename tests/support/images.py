"""Base images made on this machine: no image registry is asked for anything."""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.proc import run

# Where images that take long to make stay between runs. `make clean` removes it with .venv; another place
# may be given, for a machine where several checkouts share one.
CACHE = Path(os.environ.get("ORCA_TEST_CACHE") or Path(__file__).parents[2] / ".venv" / "images")

PATH_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Layout:
    """An image in an OCI image layout: the directory and the tag in its index."""

    path: Path
    tag: str

    @property
    def ref(self) -> str:
        """As skopeo spells it."""
        return f"oci:{self.path}:{self.tag}"


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """`path`, made by `make` if nobody has made it; one process makes it while the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = path.with_name(path.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(path)
    return path


def layout_from_tar(tar: Path, layout: Layout, config: Sequence[str]) -> Layout:
    """Make `layout`: an image of one layer, `tar`, with what the umoci flags in `config` say."""
    image = f"{layout.path}:{layout.tag}"
    run("umoci", "init", "--layout", layout.path)
    run("umoci", "new", "--image", image)
    run("umoci", "raw", "add-layer", "--image", image, tar)
    run("umoci", "config", "--image", image, *config)
    for path in layout.path.rglob("*"):  # umoci writes for its owner alone, but other users load it too
        path.chmod(0o755 if path.is_dir() else 0o644)
    return layout


def busybox_binary() -> Path:
    """Debian's static busybox (the package busybox-static)."""
    found = shutil.which("busybox", path="/bin:/usr/bin")
    if not found:
        raise FileNotFoundError("busybox: install busybox-static")
    return Path(found)


def busybox_layout(path: Path, tag: str = "busybox") -> Layout:
    """A busybox image made with umoci: shell, applets, /etc/passwd with root, daemon (1) and app (1000)."""
    tar = path.with_name(path.name + ".tar")
    write_busybox_tar(tar)
    try:
        return layout_from_tar(tar, Layout(path, tag), ["--config.cmd=/bin/sh", f"--config.env={PATH_ENV}"])
    finally:
        tar.unlink()


def write_busybox_tar(tar: Path) -> None:
    """The root filesystem of that image; the same bytes each time."""
    binary = busybox_binary()
    with tarfile.open(tar, "w") as t:
        for name, mode in (("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("proc", 0o755)):
            _add(t, name, mode, kind=tarfile.DIRTYPE)
        for name, mode in (("root", 0o700), ("sys", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755)):
            _add(t, name, mode, kind=tarfile.DIRTYPE)
        for name, mode in (("var", 0o755), ("var/lib", 0o755), ("var/tmp", 0o1777)):
            _add(t, name, mode, kind=tarfile.DIRTYPE)
        _add(t, "home/app", 0o755, kind=tarfile.DIRTYPE, owner=1000)
        _add(t, "bin/busybox", 0o755, binary.read_bytes())
        for applet in run(binary, "--list").out.split():
            if applet != "busybox":
                _add(t, f"bin/{applet}", 0o777, kind=tarfile.SYMTYPE, target="busybox")
        _add(
            t,
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\n"
            b"daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
            b"app:x:1000:1000:app:/home/app:/bin/sh\n",
        )
        _add(t, "etc/group", 0o644, b"root:x:0:\ndaemon:x:1:\naudio:x:29:app\napp:x:1000:\n")


def _add(
    tar: tarfile.TarFile,
    name: str,
    mode: int,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    target: str = "",
    owner: int = 0,
) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.linkname, entry.size = mode, kind, target, len(data)
    entry.uid = entry.gid = owner
    entry.mtime = 1_000_000_000
    tar.addfile(entry, io.BytesIO(data))


def debian_layout() -> Layout:
    """A small Debian 12 made by mmdebstrap from the mirror that the machine uses, kept in CACHE.

    Made once (about 15 s); a changed recipe makes a new one. Slim as the usual small Debian images are: no
    documentation, manual pages or translations. `apt-get update` and `install` work in it.
    """
    recipe = hashlib.sha256(inspect.getsource(_bootstrap).encode()).hexdigest()[:12]
    return Layout(once(CACHE / f"debian-{recipe}", _debian), "bookworm")


def _debian(path: Path) -> None:
    tar = path.with_name(path.name + ".tar")
    try:
        _bootstrap(tar)
        layout_from_tar(tar, Layout(path, "bookworm"), ["--config.cmd=bash", f"--config.env={PATH_ENV}"])
    finally:
        tar.unlink(missing_ok=True)


def _bootstrap(tar: Path) -> None:
    """Debian 12 as a tar of its root filesystem, without device nodes and without this machine's names."""
    unwanted = ("doc/*", "info/*", "locale/*", "man/*")
    run(
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        # usr-is-merged spares usrmerge and with it all of perl; the hook makes the links it asks for.
        "--include=usr-is-merged",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}" for name in unwanted),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        '--aptopt=APT::Install-Recommends "false"',
        "--skip=output/dev",
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
        "bookworm",
        tar,
        timeout=300,
    )
    # mmdebstrap leaves out /dev itself with what is in it.
    with tarfile.open(tar, "a") as t:
        _add(t, "./dev", 0o755, kind=tarfile.DIRTYPE)
