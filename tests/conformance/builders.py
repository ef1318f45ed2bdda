"""Those who build a case: orca, as one user or another, and Debian's buildah. Both give a flattened image."""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.images import Layout, once
from support.orca import Orca
from support.proc import Result, run
from support.users import SYSTEM_PATH, User, myself
from support.web import Repository

from conformance import bases, tree
from conformance.case import Case
from conformance.tree import Flat

# What buildah leaves in the image when it has run a command, and BuildKit and orca do not: mount points and empty files
# that belong to the run.
LEFT_BY_RUN = re.compile(r"/(?:dev|proc|sys|run|etc)(?:/.*)?")


@dataclass(frozen=True)
class Kit:
    """What cases are built with: the directory of the bases, what `@NAME` stands for, a directory for scratch."""

    bases: Path
    places: dict[str, str]
    top: Path

    def fill(self, text: str, case_top: Path) -> str:
        """Replace `@top` (the directory that holds the context), `@case` (its name), `@web` and `@registry`."""
        name = case_top.name
        known = {**self.places, "top": str(case_top), "case": name, "web": f"{self.places['web']}/{name}"}
        return re.sub(rf"@({'|'.join(known)})\b", lambda found: known[found[1]], text)

    def base(self, name: str) -> Flat:
        """A base, flattened; `scratch` is the empty image."""
        if name == "scratch":
            return tree.EMPTY
        return tree.from_layout(self.bases / f"{name}.oci", (self.bases / f"{name}.digest").read_text())


@dataclass(frozen=True)
class Workplace:
    """A case's files, written out: `words` fills the placeholders of a key's words."""

    case: Case
    top: Path
    context: Path
    fill: Callable[[str], str]

    def words(self, *keys: str) -> list[str]:
        return [self.fill(word) for key in keys for word in self.case.words(key)]

    def where(self) -> list[str]:
        """The build context as the last argument has it."""
        return self.words("context") or [str(self.context)]

    def stdin(self) -> bytes:
        name = self.case.one("stdin")
        return (self.context / name).read_bytes() if name else b""


def write(case: Case, kit: Kit, top: Path, user: User | None = None) -> Workplace:
    """Write a case's files below `top`, for an ordinary user as files of that user."""
    top.mkdir(mode=0o755)

    def fill(text: str) -> str:
        return kit.fill(text, top)

    place = Workplace(case, top, case.write(top, fill), fill)
    publish(top)
    if user and user.ids:
        for path in (top, *top.rglob("*")):
            mode = path.lstat().st_mode
            os.chown(path, *user.ids, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(mode))  # chown clears set-id bits
    return place


def publish(top: Path) -> None:
    """Make a repository that the web server serves, @git.git, of a case's files below @git."""
    files = top / "@git"
    if files.is_dir():
        repository = Repository(top / "@work")
        found = [path for path in sorted(files.rglob("*")) if path.is_file()]
        repository.commit({str(path.relative_to(files)): path.read_text() for path in found})
        repository.publish(top / "@git.git")


@dataclass
class OrcaBuilder:
    """orca as one user, on a store with all the bases."""

    kit: Kit
    orca: Orca
    user: User

    def prepare(self) -> OrcaBuilder:
        for name in bases.names(self.kit.bases):
            self.orca.load(Layout(self.kit.bases / f"{name}.oci", name), f"localhost/{name}:latest", self.user)
        return self

    def build(self, place: Workplace) -> Result:
        """Run `orca build`, however it ends. The network is left out unless the case asks for one: it takes time."""
        options = place.words("options", "orca")
        if not any(word.startswith("--network") for word in options):
            options.append("--network=none")
        return self.orca(
            "build", *options, *place.where(), env=place.case.environment, check=False, user=self.user,
            stdin=place.stdin(), timeout=60,
        )  # fmt: skip

    def image(self, place: Workplace, digest: str) -> Flat:
        """What was built: the image, or the output that the case's `read: KIND PATH` names."""
        kind, _, path = place.fill(place.case.one("read")).partition(" ")
        if kind:
            return READERS[kind](Path(path))
        return tree.from_layout(self.orca.store_of(self.user) / "images", digest)


@dataclass
class Buildah:
    """Debian's buildah with a storage of its own. What it built for a case is kept for all workers in `results`."""

    kit: Kit
    results: Path
    top: Path
    known: dict[str, tuple[dict[str, tree.Node], dict[str, bool]]] = field(default_factory=dict)

    @property
    def storage(self) -> str:
        return f"containers-storage:[overlay@{self.top / 'root'}+{self.top / 'run'}]"

    @property
    def command(self) -> list[str]:
        return [
            "buildah", "--root", str(self.top / "root"), "--runroot", str(self.top / "run"), "--storage-driver",
            "overlay",
        ]  # fmt: skip

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": SYSTEM_PATH, "HOME": str(self.top), "LANG": "C.UTF-8"}

    def prepare(self) -> Buildah:
        """Docker's format throughout: in OCI's it drops Healthcheck, OnBuild and Shell."""
        for name in bases.names(self.kit.bases):
            source = f"dir:{self.kit.bases / f'{name}.docker'}"
            run("skopeo", "copy", "-q", source, f"{self.storage}localhost/{name}:latest")
        return self

    def close(self) -> None:
        run(*self.command, "rm", "--all", check=False, env=self.env)
        run("umount", self.top / "root" / "overlay", check=False)
        shutil.rmtree(self.top, ignore_errors=True)

    def build(self, place: Workplace) -> Flat | str:
        """The image that it builds of a case, or what it said when it failed."""
        kept = once(self.results / place.case.digest, lambda path: path.write_bytes(pickle.dumps(self._build(place))))
        value: Flat | str = pickle.loads(kept.read_bytes())
        return value

    def _build(self, place: Workplace) -> Flat | str:
        iid = place.top / "iid"
        arguments = [
            "bud", "--layers=false", "--format=docker", "--isolation=oci", "--runtime=runc", "--network=host",
            "--ulimit=nofile=1024:1024", "--tls-verify=false", "--pull=missing", "--identity-label=false", "--quiet",
            f"--iidfile={iid}", *place.words("options", "buildah"), *place.where(),
        ]  # fmt: skip
        env = {**self.env, **place.case.environment}
        done = run(*self.command, *arguments, env=env, check=False, stdin=place.stdin(), cwd=place.top)
        if done.returncode:
            return str(done)
        return self._read(iid.read_text().removeprefix("sha256:"))

    def _read(self, image: str) -> Flat:
        """An image of the storage: its config, and its layers' directories put on each other."""
        images = self.top / "root" / "overlay-images"
        layers = {entry["id"]: entry for entry in _json(self.top / "root" / "overlay-layers" / "layers.json")}
        layer = next(entry["layer"] for entry in _json(images / "images.json") if entry["id"] == image)
        chain: list[str] = []
        while layer:
            chain.insert(0, layer)
            layer = layers[layer].get("parent", "")
        found: dict[str, tree.Node] = {}
        for layer in chain:
            if layer not in self.known:
                self.known[layer] = tree.walk(self.top / "root" / "overlay" / layer / "diff")
            tree.apply(found, *self.known[layer])
        key = base64.b64encode(f"sha256:{image}".encode()).decode()
        config = _json(images / image / f"={key}")
        return Flat(tree.flat_config(config), found)


def _read_archive(kind: str) -> Callable[[Path], Flat]:
    def read(path: Path) -> Flat:
        layout = path.with_name(path.name + ".layout")
        run("skopeo", "copy", "-q", f"{kind}:{path}", f"oci:{layout}:x")
        return _read_layout(layout)

    return read


def _read_layout(path: Path) -> Flat:
    return tree.from_layout(path, json.loads((path / "index.json").read_text())["manifests"][0]["digest"])


def _read_tar(path: Path) -> Flat:
    found: dict[str, tree.Node] = {}
    tree.apply(found, dict(tree.tar_entries(path.read_bytes())), {})
    return Flat(tree.EMPTY.config, found)


# How the outputs of a build are read; those that hold files only have no config.
READERS: dict[str, Callable[[Path], Flat]] = {
    "local": lambda path: Flat(tree.EMPTY.config, tree.walk(path)[0]),
    "tar": _read_tar,
    "oci": _read_layout,
    "oci-archive": _read_archive("oci-archive"),
    "docker-archive": _read_archive("docker-archive"),
}


def _json(path: Path) -> list[dict[str, str]]:
    value: list[dict[str, str]] = json.loads(path.read_bytes())
    return value


def without_leftovers(theirs: Flat, ours: Flat, base: Flat) -> Flat:
    """What buildah built without what its RUN left behind: empty files and directories, and the times of /etc and the
    like, which are those of the run.
    """
    left = {
        path
        for path, node in theirs.tree.items()
        if LEFT_BY_RUN.fullmatch(path) and path not in ours.tree and path not in base.tree and not node.size
    }
    kept = {path: node for path, node in theirs.tree.items() if path not in left}
    for path in {"/dev", "/proc", "/sys", "/run", "/etc"} & kept.keys() & ours.tree.keys():
        kept[path] = replace(kept[path], mtime=ours.tree[path].mtime)
    return Flat(theirs.config, kept)


def me() -> User:
    """Whoever runs the tests."""
    return myself()


def scratch(kit: Kit, name: str) -> Path:
    """A new directory for a case's files, which everybody can read."""
    return kit.top / f"{name.replace('/', '-')}-{os.urandom(3).hex()}"
