"""--output and --push: where else the result of a build goes, and in which shape.

A result is a `Product`: one image, or an index of several. Every writer works on a private OCI layout
(`assemble`) that has its blobs; skopeo reads that layout, so that names which come and go in the store do not
matter. Nothing here changes what the store has, but for names.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from orca.errors import OrcaError, ToolError, UsageError
from orca.executor import shapes, trees
from orca.executor.options import STDOUT, Output, Result
from orca.oci import image, reference
from orca.oci import platform as platforms
from orca.oci.image import Descriptor, check_digest
from orca.sources.access import Access
from orca.sources.images import explain
from orca.store import files
from orca.store.layout import Image, Layout, check_place
from orca.store.store import Store
from orca.tools import bounds, skopeo, tar
from orca.tools.bars import Bars
from orca.tools.command import Runner

CONTAINERD_NAME = "io.containerd.image.name"
_TAG = "image"
# These can hold any manifest as it is; the others make one of their own.
EXACT = ("docker", "oci", "oci-archive", "dir")
WHOLE_INDEX = ("docker", "oci", "dir")


@dataclass(frozen=True)
class Product:
    """What is written: `descriptor` is the manifest of the one image, or the index of them all."""

    descriptor: Descriptor
    images: tuple[Image, ...]

    @property
    def several(self) -> bool:
        """Is it an index?"""
        return self.descriptor.media_type in (image.INDEX, image.DOCKER_INDEX)

    @property
    def docker(self) -> bool:
        """Is it in Docker's format?"""
        return self.descriptor.media_type in (image.DOCKER_MANIFEST, image.DOCKER_INDEX)


def product(result: Result) -> Product:
    """What a build has made, to be written."""
    images = tuple(image for _, image in result.images) if result.index else (result.image,)
    return Product(result.descriptor, images)


@dataclass(frozen=True)
class Means:
    """What a writer works with. `scratch` is a directory of the store."""

    store: Store
    runner: Runner
    scratch: Path
    access: Access = field(default_factory=Access)


def write_all(outputs: Sequence[Output], product: Product, store: Store, runner: Runner, access: Access) -> None:
    """Carry out the outputs one after the other. Raises OrcaError, whose message says that the image is there."""
    try:
        for output in outputs:
            with store.scratch() as scratch:
                _write(output, product, Means(store, runner, scratch, access))
    except OSError as error:
        raise _kept(files.explain(error, "writing the output"), product) from error
    except OrcaError as error:
        raise _kept(error, product) from error.__cause__


def _kept(error: OrcaError, product: Product) -> OrcaError:
    error.message = f"{error.message}; the image itself is in the store: {product.descriptor.digest}"
    error.args = (error.message,)
    return error


def _write(output: Output, product: Product, means: Means) -> None:
    if output.kind in ("local", "tar"):
        _FILESYSTEMS[output.kind](output, product, means)
    elif output.kind != "cacheonly" and not (output.kind == "image" and not output.push):
        layout = Layout(means.scratch / "layout").create()
        if output.docker is None and (output.kind == "oci" or output.dest.startswith(("oci:", "oci-archive:"))):
            output = replace(output, docker=False)
        shaped = shapes.shape(output, product.descriptor, product.images, layout, means.store, means.runner)
        made = Product(*shaped)
        assemble(made, layout, means.store)
        _IMAGES[output.kind](output, made, layout, means)
    if output.kind == "image" and output.names:
        means.store.tag(output.names, product.descriptor)


def assemble(product: Product, layout: Layout, store: Store) -> list[str]:
    """See to it that `layout` has all blobs of `product`, else from the store; returns their digests."""
    blobs = {product.descriptor.digest: None}
    for each in product.images:
        blobs |= dict.fromkeys(
            (each.descriptor.digest, each.manifest.config.digest, *(layer.digest for layer in each.manifest.layers))
        )
    for digest in blobs:
        place = layout.blob_path(digest)
        if not place.exists():
            _link(store.images.blob_path(digest), place)
    layout.write_index({_TAG: product.descriptor})
    return list(blobs)


def readable(product: Product, layout: Layout) -> str:
    """What `assemble` put into `layout`, as skopeo takes it for a source.

    In an OCI layout skopeo finds no image in Docker's format; in a `dir:` it does.
    """
    if not product.docker:
        return f"oci:{layout.path}:{_TAG}"
    place = layout.path / "dir"
    place.mkdir()
    (place / "version").write_text("Directory Transport Version: 1.1\n")
    names = {product.descriptor.digest: "manifest.json"}
    for each in product.images:
        digest = each.descriptor.digest
        names.setdefault(digest, f"{digest.removeprefix('sha256:')}.manifest.json")
        blobs = (each.manifest.config, *each.manifest.layers)
        names |= {blob.digest: blob.digest.removeprefix("sha256:") for blob in blobs}
    for digest, name in names.items():
        _link(layout.blob_path(digest), place / name)
    return f"dir:{place}"


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError:  # another file system, or no hard links on this one
        import shutil

        shutil.copyfile(source, place)


# -- archives


def _oci(output: Output, product: Product, layout: Layout, means: Means) -> None:
    """An OCI layout, as a directory or as a tar archive."""
    if not output.archive:
        for name in output.names or (f"{reference.LOCAL}/x:latest",):
            tag = reference.parse(name).tag
            copy(product, layout, f"oci:{output.dest}:{tag}", means, why="write the image as an OCI layout")
        return
    _archive(output, product, layout, means, ())


def _docker(output: Output, product: Product, layout: Layout, means: Means) -> None:
    """What docker load reads: an OCI layout with Docker's own manifest.json; without a file, docker's daemon."""
    if product.several:
        raise OrcaError("docker load takes one image, not an index of several", hint="--output type=oci can hold it")
    if not output.dest:
        for name in output.names:
            copy(product, layout, f"docker-daemon:{name}", means, why="hand the image to docker's daemon")
        return
    (found,) = product.images
    paths = [_blob(blob.digest) for blob in (found.manifest.config, *found.manifest.layers)]
    value = [{"Config": paths[0], "RepoTags": list(output.names) or None, "Layers": paths[1:]}]
    files.write_json(layout.path / "manifest.json", value)
    if output.archive:
        _archive(output, product, layout, means, ("manifest.json",))
    else:
        raise UsageError("type=docker has no tar=false", hint="type=oci,tar=false writes an OCI layout")


def _archive(output: Output, product: Product, layout: Layout, means: Means, more: Sequence[str]) -> None:
    """The layout and the files `more` in it as a tar archive, always the same for the same image."""
    blobs = assemble(product, layout, means.store)
    _name(output, product.descriptor, layout)
    members = ["oci-layout", "index.json", *more, *sorted(_blob(digest) for digest in blobs)]
    with opened(output.dest) as file:
        command = tar.archive(layout.path, members)
        run_into(means.runner, command, file)


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _name(output: Output, descriptor: Descriptor, layout: Layout) -> None:
    """index.json with an entry for each name, as buildx writes it."""
    levels = (
        "index-descriptor" if descriptor.media_type in (image.INDEX, image.DOCKER_INDEX) else "manifest-descriptor",
    )
    extra = {each.name: each.value for each in output.annotations if each.level in levels}
    entries = [
        {**extra, CONTAINERD_NAME: name, image.REF_NAME: reference.parse(name).tag or "latest"} for name in output.names
    ]
    manifests = [replace(descriptor, annotations=found).to_json() for found in entries or [extra]]
    value = {"schemaVersion": 2, "mediaType": image.INDEX, "manifests": manifests}
    files.write_json(layout.path / "index.json", value)


def run_into(runner: Runner, command: Any, file: IO[bytes]) -> None:
    """Run a command whose standard output is `file`. Raises ToolError."""
    from orca.tools.command import STDERR_KEPT, drain, failure, pipe

    said = bytearray()
    with pipe() as (read, write), runner.running(command, stdout=file, stderr=write) as process:
        write.close()
        drain({read: "stderr"}, lambda data, _: said.extend(data[: STDERR_KEPT - len(said)]))
        code = process.wait()
    if code:
        raise failure(command, code, said.decode("utf-8", "replace"))


@contextlib.contextmanager
def opened(dest: str) -> Iterator[IO[bytes]]:
    """A file to write to: standard output, or one that becomes `dest` when the block ends well."""
    if dest == STDOUT:
        with open(os.dup(sys.stdout.fileno()), "wb") as file:
            yield file
        return
    path = Path(os.path.realpath(dest))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:  # a FIFO, /dev/null: written as it is
            yield file
        return
    place = path.with_name(f".{path.name[:200]}.{os.urandom(4).hex()}")
    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with open(fd, "wb") as file:
            yield file
        os.rename(place, path)
    except BaseException:
        place.unlink(missing_ok=True)
        raise


# -- root file systems


def _tar(output: Output, product: Product, means: Means) -> None:
    """The root file system as a tar archive; of several, each below a directory named for its platform."""
    with opened(output.dest) as file, trees.Archive(file) as archive:
        for each, prefix in _parts(output, product):
            tree = trees.merged(each, means.store.images, means.scratch, means.runner)
            trees.write_archive(tree, archive, prefix)


def _local(output: Output, product: Product, means: Means) -> None:
    """The root file system as a directory of the caller's."""
    for each, prefix in _parts(output, product):
        place = Path(output.dest, prefix)
        place.mkdir(parents=True, exist_ok=True)
        tree = trees.merged(each, means.store.images, means.scratch, means.runner)
        trees.write_directory(tree, place, means.runner.emit)


def _parts(output: Output, product: Product) -> Iterator[tuple[Image, str]]:
    """Each image and the directory it goes to. Raises UsageError for several that would lie over each other."""
    split = product.several if output.split is None else output.split
    if not split and len(product.images) > 1:
        raise UsageError("several platforms need a directory each", hint="leave out platform-split=false")
    for each in product.images:
        config = each.config
        name = str(platforms.normalize(config.os, config.architecture, config.variant)).replace("/", "_")
        yield each, name if split else ""


# -- skopeo


def _push(output: Output, product: Product, layout: Layout, means: Means) -> None:
    """To the registry of each name."""
    access = replace(means.access, tls_verify=False) if output.insecure else means.access
    for name in output.names:
        copy(product, layout, f"docker://{name}", replace(means, access=access), why="send the image to the registry")


def _transport(output: Output, product: Product, layout: Layout, means: Means) -> None:
    """Whatever skopeo can write to."""
    more: tuple[str, ...] = ()
    if output.dest.startswith("docker-archive:") and output.dest.count(":") == 1:
        more = tuple(f"--additional-tag={name}" for name in output.names)  # so that docker load names it
    copy(product, layout, output.dest, means, more, why="write the image there")


def copy(product: Product, layout: Layout, target: str, means: Means, more: Sequence[str] = (), *, why: str) -> str:
    """Copy what `assemble` put into `layout` to `target`, and check what arrived.

    Returns the digest of what was written. Raises ToolError with what the other side said.
    """
    transport, _, place = target.partition(":")
    if transport == "oci":
        check_place(Path(place.partition(":")[0]))
    words = [*means.access.copy_options(registry_of(target), means.scratch, "dest"), *more]
    if transport in EXACT:
        words.append("--preserve-digests")
    if product.several and transport in WHOLE_INDEX:
        words.append("--all")
    digest_file = means.scratch / "digest"
    source = readable(product, layout)
    command = skopeo.copy(source, target, f"--digestfile={digest_file}", *words, why=why, overrides=skopeo.OURS)
    images = product.images or means.store.images.all_images(product.descriptor)
    sizes = {layer.digest: layer.size for each in images for layer in each.manifest.layers}

    def attempt() -> None:
        bars = Bars("push", sizes, means.runner.emit)
        bounds.run(means.runner, command, lambda _: False, step=None, shown=bars.feed)

    try:
        means.access.again(attempt, means.runner.emit)
    except ToolError as error:
        raise explain(error, target.removeprefix("docker://")) from error
    digest = check_digest(digest_file.read_text().strip())
    if transport in EXACT and digest != product.descriptor.digest:
        raise ToolError(f"{target} got {digest}, not the image's own digest {product.descriptor.digest}")
    return digest


def registry_of(target: str) -> str:
    """Whose credentials are asked for; empty where there is no registry."""
    from orca.sources.registries import DEFAULT_REGISTRY

    if not target.startswith("docker://"):
        return ""
    return reference.parse(target.removeprefix("docker://")).registry or DEFAULT_REGISTRY


def send(
    descriptor: Descriptor,
    target: str,
    store: Store,
    runner: Runner,
    access: Access,
    options: Sequence[str] = (),
    *,
    why: str,
) -> str:
    """Copy the image or index `descriptor` of the store to `target`, anything that skopeo can write to.

    Returns the digest of what was written. Raises ToolError.
    """
    with store.scratch() as scratch:
        docker = descriptor.media_type in (image.DOCKER_MANIFEST, image.DOCKER_INDEX)
        whole = Product(descriptor, store.images.all_images(descriptor) if docker else ())
        layout = Layout(scratch / "layout").create(blobs=store.images.path / "blobs")
        if docker and not whole.several and target.startswith(("oci:", "oci-archive:")):
            found = store.images.oci(whole.images[0])
            whole = Product(found.descriptor, (found,))
        layout.write_index({_TAG: whole.descriptor})
        return copy(whole, layout, target, Means(store, runner, scratch, access), options, why=why)


_FILESYSTEMS: dict[str, Callable[[Output, Product, Means], None]] = {"tar": _tar, "local": _local}
_IMAGES: dict[str, Callable[[Output, Product, Layout, Means], None]] = {
    "oci": _oci,
    "docker": _docker,
    "image": _push,
    "registry": _push,
    "transport": _transport,
}
