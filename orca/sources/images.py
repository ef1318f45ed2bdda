"""Images from registries into the store, by skopeo.

What arrives is checked along the whole chain, and what skopeo's conversion from Docker's format
drops (Healthcheck, OnBuild, Shell) is put back.
"""

from __future__ import annotations

import contextlib
import os
import re
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from orca.errors import ImageError, OrcaError, StoreError, ToolError
from orca.events import Progress
from orca.oci import image, reference
from orca.oci.image import Descriptor, ImageConfig
from orca.oci.index import Index
from orca.oci.platform import Platform
from orca.oci.reference import Reference
from orca.sources import policy, registries
from orca.sources.access import Access
from orca.sources.names import entry_of, in_store, lookup, platform_of, stored
from orca.store.layout import Image, Layout
from orca.store.store import Store
from orca.tools import bounds, skopeo
from orca.tools.bars import Bars, Rate
from orca.tools.command import Runner

POLICIES = ("missing", "always", "newer", "never")
_TAG = "pulled"
SLACK = 1 << 20

# What skopeo says on stderr, what that means, and what to do about it. The first that fits counts.
_TROUBLES: tuple[tuple[str, str, str | None], ...] = (
    (r"image rejected|rejected by policy|invalid policy|policy.json|creating signature policy",
     "the signature policy refuses it", "docs/trust.md and containers-policy.json(5) tell of policies"),
    (r"creating signature|signing|No secret key", "it cannot be signed",
     "gpg --list-secret-keys shows the keys; GNUPGHOME says where they are"),
    (r"requested access to the resource is denied", "there is no such image, or it needs a login",
     "check the name; orca login REGISTRY or --creds gives access"),
    (r"manifest unknown|name unknown|(?<!file )not found(?! in \$PATH)|repository does not exist",
     "there is no such image", "check the name and the tag"),
    (r"invalid reference format", "skopeo cannot read this name",
     "old ones know no IPv6 addresses: a host name, from /etc/hosts too, does it"),
    (r"is blocked in ", "registries.conf blocks it", "see blocked in containers-registries.conf(5)"),
    (r"toomanyrequests|too many requests", "the registry allows no more requests for now",
     "wait, or log in: orca login REGISTRY"),
    (r"connection refused|no route to host|network is unreachable", "the registry cannot be reached",
     "is it running, and is the name before the first / right?"),
    (r"no such host|name resolution|server misbehaving", "the registry's name cannot be resolved",
     "check the name before the first /, and this machine's DNS"),
    (r"unauthorized|invalid username/password|authentication required|access.*denied|forbidden",
     "the registry refuses access", "orca login REGISTRY, or --creds USER:PASSWORD"),
    (r"server gave HTTP response to HTTPS client", "the registry speaks http, not https",
     "name it in registries.conf with insecure = true; pull and push also take --tls-verify=false"),
    (r"x509|certificate", "the registry's certificate is not trusted",
     "add its authority to the system's certificates; pull and push also take --tls-verify=false"),
    (r"no image found in (?:manifest list|image index)", "the image is not there for this platform",
     "choose another with --platform"),
    (r"timeout|deadline exceeded|timed out", "the registry does not answer", "try again"),
    (r"status code from registry 5\d\d|unexpected HTTP status: 5\d\d|internal server error|service unavailable",
     "the registry itself has failed", "try again later; its own log says why"),
    (r"connection reset|unexpected EOF|broken pipe", "the connection to the registry broke", "try again"),
    (r"no space left on device", "no space left on the device",
     "orca prune frees what no image needs; ORCA_ROOT puts the store elsewhere"),
    (r"doesn't support modifying existing images", "that archive is there already", "remove it, or name another file"),
)  # fmt: skip


def explain(error: ToolError, name: object) -> OrcaError:
    """The error that a user understands for what skopeo said about the image `name`."""
    meaning, hint = "skopeo failed", error.hint
    for pattern, known, advice in _TROUBLES:
        if re.search(pattern, error.stderr, re.IGNORECASE):
            meaning, hint = known, advice
            break
    # skopeo tells a long chain of causes in one line, and the last one matters.
    lines = (part for line in error.stderr.splitlines() for part in textwrap.wrap(line, 74, break_on_hyphens=False))
    said = "\n".join(lines)
    return ToolError(f"{name}: {meaning}", argv=error.argv, returncode=error.returncode, stderr=said, hint=hint)


def overrides(platform: Platform) -> tuple[str, ...]:
    """skopeo's flags that choose a platform out of an index."""
    variant = (f"--override-variant={platform.variant}",) if platform.variant else ()
    return (f"--override-os={platform.os}", f"--override-arch={platform.architecture}", *variant)


class Puller:
    """Gets images into the store."""

    def __init__(self, store: Store, runner: Runner, scratch: Path, access: Access | None = None) -> None:
        self.store = store
        self.runner = runner
        self.scratch = scratch
        self.access = access or Access()

    def ensure(
        self, text: str, platform: Platform, policy: str = "missing", step: int | None = None, *, beside: bool = False
    ) -> Image:
        """The image `text` for `platform`: from the store, else (as `policy` says) from a registry.

        With `beside`, an image in the store that is for another platform does not do while a registry may have
        the right one, and what is pulled joins those for other platforms under the name, which becomes an index's.
        Raises OrcaError with what the registry said.
        """
        called, there = (lookup(self.store, text) if policy in ("missing", "never") else None) or (None, None)
        if there is not None:
            # No registry has what was built here, or is named by its digest.
            only = policy == "never" or called is None or reference.parse(called).registry == reference.LOCAL
            if found := stored(self.store, there, platform, fitting=beside and not only):
                return found
        elif policy == "never":
            hint = "orca pull gets it"
            raise StoreError(f"{text} is not in the store, and --pull=never forbids to get it", hint=hint)
        failed: list[OrcaError] = []
        for name in registries.candidates(text):
            if name.registry == reference.LOCAL:
                # What was built here: no registry has it.
                return self.store.find(text, platform)[1]
            try:
                return self.pull(name, platform, step, beside=beside)
            except ToolError as error:
                failed.append(error)
        if policy == "newer" and (there := in_store(self.store, text)) is not None:
            return self.store.images.image(there, platform)
        # What was built here is offered as a last resort only when no registry has the name.
        raise failed[0]

    def pull(self, name: Reference, platform: Platform, step: int | None = None, *, beside: bool = False) -> Image:
        """Copy one image from its registry; it gets its full name as a tag. Raises ToolError, ImageError.

        With `beside`, images for other platforms keep the name too.
        """
        found = self.fetch(name, platform, step)
        if beside:
            self._tag_beside(str(name), found, platform)
        else:
            self.store.tag((str(name),), found.descriptor)
        return found

    def _tag_beside(self, name: str, found: Image, platform: Platform) -> None:
        layout = self.store.images

        def join(tags: dict[str, Descriptor]) -> None:
            others = Index()
            if name in tags:
                with contextlib.suppress(OrcaError):  # a damaged one is replaced
                    others = layout.entries(tags[name]) or Index(tuple(map(entry_of, layout.all_images(tags[name]))))
            both = others.beside([entry_of(found, platform_of(found) or platform)])
            tags[name] = layout.put_index(both) if len(both.manifests) > 1 else found.descriptor

        self.store.edit_tags(join)

    def fetch(
        self, name: Reference, platform: Platform, step: int | None = None, under: Reference | None = None
    ) -> Image:
        """Copy one image from its registry, which gives it no name. Raises ToolError, ImageError.

        `under` is what was asked for, when `name` is an entry of the index that was found there.
        """
        try:
            found = self.access.again(lambda: self._pull(name, under or name, platform, step), self.runner.emit)
        except ToolError as error:
            raise explain(error, name) from error
        return found

    def manifest(self, name: Reference) -> bytes:
        """The manifest or index that a registry has under `name`. Raises ToolError, ImageError."""
        place = f"docker://{name.name}@{name.digest}" if name.digest else f"docker://{name.name}:{name.tag}"
        try:
            data = self.access.again(lambda: self._raw(place, None), self.runner.emit)
        except ToolError as error:
            raise explain(error, name) from error
        if name.digest and image.digest_of(data) != name.digest:
            raise ImageError(f"{name}: the registry sent {image.digest_of(data)}")
        return data

    def _options(self, source: str) -> list[str]:
        """How skopeo inspect gets at the registry of `source`."""
        return self.access.options(_registry(source), self.scratch)

    def _pull(self, name: Reference, under: Reference, platform: Platform, step: int | None) -> Image:
        source = f"docker://{name.name}"
        wanted = f"{source}@{name.digest}" if name.digest else f"{source}:{name.tag}"
        raw = self._raw(wanted, step)
        digest = image.digest_of(raw)
        if name.digest and digest != name.digest:
            raise ImageError(f"{name}: the registry sent {digest}")
        raw = self._one_manifest(source, raw, platform, step)
        pinned = f"{source}@{image.digest_of(raw)}"
        found = self._copy(pinned, raw, platform, step)
        if under.tag and not under.digest and policy.wants_signatures(self.access.policy):
            self._judge(f"{source}:{under.tag}", found, raw, platform, step)
        return self._restore(found, pinned, platform, step) if _is_docker(raw) else found

    def _raw(self, source: str, step: int | None) -> bytes:
        """The manifest or index as the registry has it."""
        command = skopeo.inspect_raw(source, *self._options(source))
        return self.runner.run(command, step=step, limit=image.JSON_LIMIT).stdout

    def _one_manifest(self, source: str, raw: bytes, platform: Platform, step: int | None) -> bytes:
        """Out of an index, the manifest for `platform`: it says how much may arrive. Raises ImageError."""
        value = image.load_object(raw, "the manifest")
        if not isinstance(value.get("manifests"), list):
            return raw
        entry = Index.from_json(value).choose(platform)
        data = self._raw(f"{source}@{entry.digest}", step)
        if image.digest_of(data) != entry.digest:
            raise ImageError(f"the registry sent {image.digest_of(data)} for {entry.digest}")
        return data

    def _copy(self, source: str, raw: bytes, platform: Platform, step: int | None) -> Image:
        layout = Layout(self.scratch / f"pull-{threading.get_ident()}-{os.urandom(3).hex()}")
        layout.create(blobs=self.store.images.path / "blobs")
        command = skopeo.copy(
            source, f"oci:{layout.path}:{_TAG}", "--remove-signatures",
            *self.access.copy_options(_registry(source), self.scratch, "src"),
            why="get the image from the registry", overrides=(*self.access.judged(), *overrides(platform)),
        )  # fmt: skip
        most = _expected(raw)
        bars = Bars("pull", _sizes(raw), self.runner.emit, step)
        with watch(layout.path, raw, self.runner, step, bars):
            if not bounds.run(
                self.runner, command, lambda _: sum(_arriving(layout.path).values()) > most,
                step=step, shown=bars.feed,
            ):  # fmt: skip
                raise ImageError("the registry sends more than the manifest says", hint="nothing of it was kept")
        pulled = layout.index().get(_TAG)
        if pulled is None:
            raise ImageError(f"skopeo left no image of {source}")
        found = layout.image(pulled, platform)
        # skopeo has hashed each blob as it came; sizes and the chain remain to be checked.
        layout.verify(found, layers=False)
        return found

    def _judge(self, source: str, found: Image, raw: bytes, platform: Platform, step: int | None) -> None:
        """See to it that the signature is for the tag of `source`, too. Raises ToolError, ImageError.

        By its digest, as it is copied, an image is only held to the repository that its signature names: a registry
        could offer an old one, signed under another tag. Nothing is sent twice: the blobs are there.
        """
        if self._copy(source, raw, platform, step).descriptor.digest != found.descriptor.digest:
            raise ImageError(f"{source.removeprefix('docker://')} became another image meanwhile", hint="try again")

    def blobs(self, source: str, raw: bytes, platform: Platform) -> Image:
        """Bring all that the manifest `raw` at `source` names into the store, checked. Raises ToolError, ImageError."""
        return self._copy(source, raw, platform, None)

    def _restore(self, found: Image, source: str, platform: Platform, step: int | None) -> Image:
        command = skopeo.inspect_config(source, *self._options(source), overrides=overrides(platform))
        data = self.runner.run(command, step=step, limit=image.JSON_LIMIT).stdout
        original = ImageConfig.from_json(image.load_object(data, "the image config"))
        config = replace(
            found.config,
            healthcheck=original.healthcheck,
            onbuild=original.onbuild,
            shell=original.shell,
            args_escaped=original.args_escaped,
        )
        return found if config == found.config else self.store.images.put_image(found.manifest, config)


def _registry(source: str) -> str:
    """The registry of `docker://NAME`; the names that come here are full ones."""
    return reference.parse(source.removeprefix("docker://")).registry or ""


def _is_docker(raw: bytes) -> bool:
    kind = image.load_object(raw, "the manifest").get("mediaType")
    return kind in (image.DOCKER_MANIFEST, image.DOCKER_INDEX)


def _expected(raw: bytes) -> int:
    """The most that may be under way at a time for the image behind a manifest. Raises ImageError.

    A layer that names servers of its own is refused: skopeo would ask them, and they may be this machine's.
    Whether the manifest is a right one is for skopeo to say, and for `verify`.
    """
    value = image.load_object(raw, "the manifest")
    if not isinstance(value.get("layers"), list):
        return bounds.limit(0)
    blobs = [blob for blob in (*value["layers"], value.get("config")) if isinstance(blob, dict)]
    if any(blob.get("urls") for blob in blobs):
        raise ImageError("a layer of the image is to come from elsewhere (urls), which is not done")
    sizes = [blob.get("size") for blob in blobs]
    return sum(size for size in sizes if isinstance(size, int)) + SLACK


def _arriving(directory: Path) -> dict[str, int]:
    """The temporary files that skopeo fills in a layout, and their sizes."""
    seen = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            if entry.name.startswith("oci-put-blob"):
                seen[entry.name] = entry.stat().st_size
    return seen


def _sizes(raw: bytes) -> dict[str, int]:
    """The layers that a manifest names, whatever else it is, and their sizes."""
    layers = image.load_object(raw, "the manifest").get("layers")
    found = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    pairs = [(layer.get("digest", ""), layer.get("size", 0)) for layer in found]
    return {str(digest): size for digest, size in pairs if isinstance(size, int) and size >= 0}


@contextlib.contextmanager
def watch(directory: Path, raw: bytes, runner: Runner, step: int | None, bars: Bars) -> Iterator[None]:
    """Emit Progress while skopeo fills `directory`, from the sizes of its temporary files unless it shows bars."""
    total = sum(_sizes(raw).values()) or None
    done, rate = threading.Event(), Rate()

    def look() -> None:
        seen: dict[str, int] = {}
        while not done.wait(0.1):
            seen |= _arriving(directory)
            if seen and not bars.seen:
                arrived = sum(seen.values())
                shown = min(arrived, total) if total else arrived
                runner.emit(Progress(step, "pull", shown, total, rate=rate(arrived)))

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
