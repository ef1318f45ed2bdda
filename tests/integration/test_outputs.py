"""Outputs with the real tools: what other tools read of what orca wrote."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.built import Built
from support.images import Layout
from support.kitchen import BASE, Kitchen
from support.leftovers import Leftovers
from support.orca import Orca
from support.proc import Failed, free_port, run, start, stop
from support.registry import Registry
from support.users import User

# htpasswd's bcrypt of the password "p".
PASSWORD_FILE = "u:$2b$05$5NI8bAOhDBwuSCtg.cFtP.FkRy2IhQKaIgBMjWeP7tRjJeCCWNB4W\n"

FILES: dict[str, str | bytes | Path] = {
    "Dockerfile": f"""\
FROM {BASE}
RUN mkdir -p /d/gone /d/anew && echo a > /d/a && ln /d/a /d/b && ln -s a /d/c && chown 5:6 /d/a && touch /d/anew/old
RUN rm -r /d/gone /d/anew && mkdir /d/anew && echo z > /d/z && chmod 4755 /d/z && mkfifo /d/fifo && chmod 700 /d
HEALTHCHECK CMD true
ONBUILD RUN true
SHELL ["/bin/sh", "-e", "-c"]
"""
}


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def looks(built: Built) -> dict[str, tuple[object, ...]]:
    """The tree without which of several names of a file is the first."""
    return {
        name: (file.mode, file.owner, file.mtime, file.data, file.target if file.kind == "link" else file.kind == "dir")
        for name, file in built.files.items()
    }


def words_of(text: str) -> str:
    """What was said, however it was wrapped."""
    return " ".join(text.split())


class TestArchives:
    def test_every_kind_at_once(self, kitchen: Kitchen, open_path: Path, leftovers: Leftovers) -> None:
        out = open_path / "out"
        out.mkdir()
        words = [
            f"type=oci,dest={out}/oci.tar", f"type=docker,dest={out}/docker.tar,name=reg.example/a:1",
            f"type=oci,dest={out}/layout,tar=false", f"oci:{out}/skopeo:x", f"oci-archive:{out}/archive.tar:y",
            f"dir:{out}/dir", f"docker-archive:{out}/old.tar", f"type=oci,oci-mediatypes=false,dest={out}/types.tar",
            f"type=oci,compression=zstd,dest={out}/zstd.tar", f"type=oci,compression=uncompressed,dest={out}/plain.tar",
            f"type=oci,compression=gzip,compression-level=9,annotation.k=v,dest={out}/nine.tar",
        ]  # fmt: skip
        context = kitchen.context(FILES)
        built = kitchen.build(context, "-t", "app", *(part for word in words for part in ("-o", word)))
        digest = built.result.out
        config = run("skopeo", "inspect", "--config", "--raw", f"oci-archive:{out}/oci.tar").stdout
        for source in (
            "docker-archive:docker.tar",
            "oci:skopeo:x",
            "oci:layout:latest",
            "dir:dir",
            "docker-archive:old.tar",
        ):
            transport, _, place = source.partition(":")
            raw = run("skopeo", "inspect", "--config", "--raw", f"{transport}:{out}/{place}").stdout
            assert raw == config, source
        assert json.loads(config)["config"].keys() >= {"Healthcheck", "OnBuild", "Shell"}
        kinds = {"oci": "tar+gzip", "zstd": "tar+zstd", "plain": "v1.tar", "nine": "tar+gzip", "types": "diff.tar.gzip"}
        for name, kind in kinds.items():
            manifest = json.loads(run("skopeo", "inspect", "--raw", f"oci-archive:{out}/{name}.tar").stdout)
            assert all(layer["mediaType"].endswith(kind) for layer in manifest["layers"]), name
            # It reads every blob, and checks it.
            run("skopeo", "copy", "-q", f"oci-archive:{out}/{name}.tar", f"dir:{out}/copy-{name}")
        assert json.loads(run("skopeo", "inspect", "--raw", f"oci-archive:{out}/nine.tar").stdout)["annotations"] == {
            "k": "v"
        }
        assert json.loads(run("tar", "xOf", out / "docker.tar", "manifest.json").stdout)[0]["RepoTags"] == [
            "reg.example/a:1"
        ]
        entry = json.loads(run("tar", "xOf", out / "oci.tar", "index.json").stdout)["manifests"][0]
        assert entry["digest"] == digest
        assert entry["annotations"]["io.containerd.image.name"] == "localhost/app:latest"
        first = (out / "oci.tar").read_bytes()
        kitchen.orca("build", "-q", "-t", "app", "-o", words[0], context)
        assert (out / "oci.tar").read_bytes() == first
        leftovers.assert_none()

    def test_buildah_reads_them(self, kitchen: Kitchen, open_path: Path) -> None:
        context = kitchen.context({"Dockerfile": f"FROM {BASE}\nHEALTHCHECK CMD true\n"})
        words = ("-o", "type=docker,dest=d.tar", "-o", "type=oci,dest=o.tar,compression=zstd")
        kitchen.orca("build", "-q", "-t", "reg.example/app:1", *words, context, cwd=open_path)
        store = ("--root", str(open_path / "root"), "--runroot", str(open_path / "run"), "--storage-driver", "vfs")
        for source in ("docker-archive:d.tar", "oci-archive:o.tar"):
            pulled = run("buildah", *store, "pull", "-q", source, cwd=open_path).out
            assert len(pulled) == 64

    def test_the_root_filesystem(self, kitchen: Kitchen, open_path: Path) -> None:
        """The same tree as a tar, as a directory, and as what another image's snapshots make of it."""
        context = kitchen.context(FILES)
        found = kitchen.orca("build", "-q", "-o", "type=tar,dest=t.tar", "-o", "tree", context, cwd=open_path)
        assert found.out.startswith("sha256:")
        there = members((open_path / "t.tar").read_bytes())
        assert (there["d/a"].uid, there["d/a"].gid) == (5, 6)
        assert (there["d/b"].islnk(), there["d/b"].linkname) == (True, "d/a")
        assert (there["d/c"].issym(), there["d/c"].linkname) == (True, "a")
        assert there["d/z"].mode == 0o4755
        assert there["d/fifo"].isfifo()
        assert not {"d/gone", "d/anew/old"} & there.keys()
        assert not any(".wh." in name for name in there)
        tree = open_path / "tree"
        assert stat.S_IMODE((tree / "d/z").stat().st_mode) == 0o755
        assert (tree / "d/a").stat().st_ino == (tree / "d/b").stat().st_ino
        assert (tree / "d/a").stat().st_uid == os.getuid()
        assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o700
        assert os.readlink(tree / "d/c") == "a"
        assert not (tree / "d/fifo").exists()
        assert (tree / "d/a").stat().st_mtime == there["d/a"].mtime
        names = {str(path.relative_to(tree)) for path in tree.rglob("*")}
        assert names == there.keys() - {"d/fifo"}

    def test_standard_output_has_the_archive_alone(self, kitchen: Kitchen) -> None:
        context = kitchen.context(f"FROM {BASE}\nRUN echo hi > /hi\n")
        command = [*kitchen.orca.command("build", "-q", "-o", "-", context)]
        from subprocess import run as plain

        done = plain(command, env=kitchen.orca.environment(), capture_output=True, check=True, timeout=120)
        assert members(done.stdout)["hi"].size == 3
        assert done.stderr.startswith(b"sha256:")


class TestDirectories:
    def test_what_is_there_stays(self, kitchen: Kitchen, open_path: Path) -> None:
        tree = open_path / "tree"
        (tree / "srv/mine").mkdir(parents=True)
        (tree / "srv/mine/file").write_text("mine")
        (tree / "srv/old").write_text("old")
        (tree / "srv").chmod(0o700)
        context = kitchen.context({"Dockerfile": "FROM scratch\nCOPY srv /srv\n", "srv/old": "new"})
        kitchen.orca("build", "-q", "-o", tree, context)
        assert ((tree / "srv/mine/file").read_text(), (tree / "srv/old").read_text()) == ("mine", "new")

    def test_a_directory_with_something_in_it_is_no_file(self, kitchen: Kitchen, open_path: Path) -> None:
        (open_path / "tree/x/y").mkdir(parents=True)
        context = kitchen.context({"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": "x"})
        failed = kitchen.orca("build", "-t", "kept", "-o", open_path / "tree", context, check=False)
        assert failed.returncode == 125
        assert "/x is a directory with something in it" in failed.stderr
        digest = json.loads(kitchen.orca("inspect", "kept").stdout)[0]["digest"]
        assert f"the image itself is in the store: {digest}" in words_of(failed.stderr)

    @pytest.mark.user
    def test_an_ordinary_users_files_are_theirs(
        self, orca: Orca, busybox_layout: Layout, ordinary_user: User, open_path: Path
    ) -> None:
        orca.load(busybox_layout, BASE, user=ordinary_user)
        place = ordinary_user.own_directory(open_path / "place")
        context = Kitchen(orca).context(FILES)
        done = orca("build", "-q", "-o", place / "tree", "-o", f"type=tar,dest={place}/t.tar", "--squash",
                    "-o", f"type=oci,dest={place}/o.tar,compression=zstd", context, user=ordinary_user)  # fmt: skip
        assert done.out.startswith("sha256:")
        owners = {path.lstat().st_uid for path in (place / "tree").rglob("*")}
        assert owners == {place.stat().st_uid}
        assert members((place / "t.tar").read_bytes())["d/a"].uid == 5
        run("skopeo", "inspect", f"oci-archive:{place}/o.tar")


class TestForms:
    def test_squash(self, kitchen: Kitchen) -> None:
        kitchen.build({"Dockerfile": f"FROM {BASE}\nRUN mkdir /d /e && touch /d/x /e/y /f\n"}, "-t", "below")
        files: dict[str, str | bytes | Path] = {
            "Dockerfile": "FROM below AS a\nRUN rm /f && touch /new && rm -r /d && mkdir /d && touch /d/n && rm -r /e\n"
            "FROM a\nRUN touch /e && ln /new /link && chmod 600 /new\n"
        }
        context = kitchen.context(files)
        plain = kitchen.build(context, "-t", "plain")
        for option, layers in (("--squash", 3), ("--squash-all", 1)):
            made = kitchen.build(context, "-t", "made", option)
            made.check()
            assert len(made.manifest["layers"]) == layers, option
            assert looks(made) == looks(plain), option
            assert made.config == plain.config
            assert kitchen.orca("build", "-q", option, "-t", "made", context).out == made.result.out
        history = kitchen.orca.config("localhost/made:latest")["history"]
        assert [entry.get("empty_layer", False) for entry in history[-2:]] == [True, False]

    def test_docker_format(self, kitchen: Kitchen, registry: Registry, open_path: Path) -> None:
        place = f"{registry.address}/docker/app:1"
        context = kitchen.context(FILES)
        made = kitchen.orca("build", "-q", "-t", place, "--format", "docker", "--push", "--tls-verify=false", context)
        raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{place}").stdout
        assert json.loads(raw)["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
        assert (
            made.out == run("skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{place}").out
        )
        config = run("skopeo", "inspect", "--config", "--raw", "--tls-verify=false", f"docker://{place}").stdout
        assert json.loads(config)["config"].keys() >= {"Healthcheck", "OnBuild", "Shell"}
        # The store can go on with it.
        assert kitchen.orca("run", made.out, "/bin/busybox", "cat", "/d/z").out == "z"
        again = kitchen.context(f"FROM {place}\nRUN echo more > /more\n")
        kitchen.orca("build", "-q", "-t", "more", again)
        assert kitchen.orca("push", "-q", "--tls-verify=false", place, f"{place}b").out == made.out
        kitchen.orca("push", "-q", place, f"oci:{open_path}/layout:x")

    def test_annotations(self, kitchen: Kitchen) -> None:
        built = kitchen.build({"Dockerfile": f"FROM {BASE}\n"}, "--annotation", "a=1", "--annotation", "manifest:b=x:y")
        assert built.manifest["annotations"] == {"a": "1", "b": "x:y"}

    def test_an_index_as_an_archive_and_pushed(self, kitchen: Kitchen, registry: Registry, open_path: Path) -> None:
        place = f"{registry.address}/index/app:1"
        context = kitchen.context({"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": "f"})
        words = ["--platform", "linux/amd64,linux/arm64", "-t", place, "--push", "--tls-verify=false",
                 "--annotation", "index,manifest-descriptor[linux/arm64]:k=v",
                 "-o", "type=oci,dest=o.tar", "-o", "tree", "-o", "type=tar,dest=t.tar"]  # fmt: skip
        made = kitchen.orca("build", "-q", *words, context, cwd=open_path)
        index = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{place}").stdout)
        assert index["annotations"] == {"k": "v"}
        assert [entry.get("annotations") for entry in index["manifests"]] == [None, {"k": "v"}]
        assert (
            json.loads(run("tar", "xOf", open_path / "o.tar", "index.json").stdout)["manifests"][0]["digest"]
            == made.out
        )
        assert (open_path / "tree/linux_arm64/f").read_text() == "f"
        assert members((open_path / "t.tar").read_bytes()).keys() == {"linux_amd64/f", "linux_arm64/f"}
        docker = kitchen.orca("build", "-q", *words[:6], "--format=docker", context, cwd=open_path)
        raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{place}").stdout
        assert json.loads(raw)["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
        assert docker.out != made.out


class TestRegistries:
    @pytest.fixture
    def closed(self, open_path: Path) -> Iterator[str]:
        """The address of a registry that lets in nobody but u:p."""
        port = free_port()
        (open_path / "htpasswd").write_text(PASSWORD_FILE)
        config = open_path / "config.yml"
        config.write_text(
            f"version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {open_path}/data}}\n"
            f"http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: r, path: {open_path}/htpasswd}}}}\n"
        )
        process = start(["docker-registry", "serve", config], log=open_path / "registry-log")
        for _ in range(200):
            if run("curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{port}/v2/", check=False).returncode == 0:
                break
        try:
            yield f"127.0.0.1:{port}"
        finally:
            stop(process)

    def test_credentials_reach_pushes_and_bases_and_stay_secret(self, orca: Orca, busybox: str, closed: str) -> None:
        context = Kitchen(orca).context(f"FROM {busybox}\nRUN echo 1 > /one\n")
        one = f"{closed}/one:1"
        refused = orca("build", "-t", one, "--push", "--tls-verify=false", context, check=False)
        assert refused.returncode == 125
        assert "the registry refuses access" in refused.stderr
        assert "the image itself is in the store: sha256:" in words_of(refused.stderr)
        with_ = ("--creds=u:p", "--tls-verify=false")
        made = orca("build", "-t", one, *with_, "--explain", "--push", context)
        assert "u:p" not in made.stderr
        orca("rm", "--all")
        orca("prune", "--all")
        (context / "Dockerfile").write_text(f"FROM {one}\n")
        assert orca("build", "-q", "-t", "two", *with_, "-o", f"docker://{closed}/two", context).out
        auth = "dTpw"  # u:p as an authfile has it
        for path in orca.store.rglob("*"):
            if path.is_file():
                assert auth.encode() not in path.read_bytes(), path
        (orca.top / "auth.json").write_text(json.dumps({"auths": {closed: {"auth": auth}}}))
        authfile = f"--authfile={orca.top}/auth.json"
        orca("build", "-q", authfile, "--tls-verify=false", "--pull", "-o", f"type=registry,name={closed}/x:1", context)

    def test_names_and_stores_that_are_not_asked_for(self, kitchen: Kitchen, registry: Registry) -> None:
        context = kitchen.context(f"FROM {BASE}\n")
        name = f"{registry.address}/named/it:1"
        word = f"type=image,name={name},push=true,registry.insecure=true"
        made = kitchen.orca("build", "-q", "-o", word, context)
        assert kitchen.orca("images", "-q", name, check=False).returncode == 0
        assert (
            made.out == run("skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{name}").out
        )
        kitchen.orca("build", "-q", "-t", "unseen", "-o", "type=cacheonly", context)
        assert "unseen" not in kitchen.orca("images").stdout


def test_what_cannot_be_is_told_before_the_build(kitchen: Kitchen, open_path: Path) -> None:
    context = kitchen.context("FROM nowhere.invalid/never\n")
    for words, said in (
        (["-o", "type=oci,dest=/no/such/dir/x"], "/no/such/dir is not a directory"),
        (["-o", "type=bogus"], "'bogus'"),
        (["-t", "app", "--push"], "app:latest says no registry"),
        (["--push"], "a push needs a name"),
        (["-o", "type=local"], "needs dest="),
        (["-o", "-", "-o", "type=oci"], "only one output"),
        (["--annotation", "index:a=b"], "one image has no index"),
        (["--annotation", "a=b", "--format", "docker"], "needs the OCI format"),
    ):
        failed = kitchen.orca("build", *words, context, check=False)
        assert (failed.returncode, said in failed.stderr) == (2, True), failed
    with pytest.raises(Failed, match=r"cannot be reached|resolved"):
        kitchen.orca("build", "-o", f"type=oci,dest={open_path}/x", context)
    assert not (open_path / "x").exists()


def test_what_came_from_the_cache_leaves_no_record(kitchen: Kitchen, orca: Orca, tmp_path: Path) -> None:
    context = kitchen.context(f"FROM {BASE}\nENV UNRECORDED=1\n")
    kitchen.build(context)
    before = orca("builds", "--json").stdout
    kitchen.build(context, "-o", f"oci:{tmp_path / 'out'}:app")
    assert orca("builds", "--json").stdout == before
