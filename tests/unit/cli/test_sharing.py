"""pull and push without a registry: where to, with which credentials, and what skopeo's complaints mean."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from support.fake_tools import FakeTools
from support.stores import Maker

from orca.cli import access, build, pull, push
from orca.cli.push import Destination, destination
from orca.errors import ToolError, UsageError
from orca.executor import outputs
from orca.executor.contexts import Place
from orca.sources.access import Access
from orca.sources.images import explain


class TestDestination:
    @pytest.mark.parametrize(
        ("text", "spelled"),
        [
            ("reg.example:5000/app", "docker://reg.example:5000/app:latest"),
            ("docker://reg.example/app:1", "docker://reg.example/app:1"),
            ("someone/app", "docker://someone/app:latest"),
            ("oci:out:app", "oci:out:app"),
            ("oci-archive:x.tar", "oci-archive:x.tar"),
            ("docker-archive:x.tar:app:1", "docker-archive:x.tar:app:1"),
            ("dir:/tmp/x", "dir:/tmp/x"),
            ("docker-daemon:app:latest", "docker-daemon:app:latest"),
            ("bogus:1", "docker://bogus:1"),
        ],
    )
    def test_names_and_transports(self, text: str, spelled: str) -> None:
        assert str(destination(text, None, [])) == spelled

    def test_by_default_its_own_name(self) -> None:
        assert str(destination(None, "reg.example/app:1", [])) == "docker://reg.example/app:1"
        assert str(destination(None, None, ["reg.example/app:1"])) == "docker://reg.example/app:1"

    @pytest.mark.parametrize(
        ("text", "name", "names"),
        [
            (None, "localhost/app:latest", []),
            (None, None, []),
            (None, None, ["a.example/a:1", "b.example/a:1"]),
            ("oci:", None, []),
            ("docker://", None, []),
            ("Bad/Name", None, []),
            ("--version", None, []),
            ("reg.example/app@sha256:" + "0" * 64, None, []),
        ],
    )
    def test_what_leads_nowhere(self, text: str | None, name: str | None, names: list[str]) -> None:
        with pytest.raises(UsageError):
            destination(text, name, names)

    def test_whose_credentials(self) -> None:
        assert outputs.registry_of("docker://reg.example:5000/app") == "reg.example:5000"
        assert outputs.registry_of("docker://someone/app") == "docker.io"
        assert outputs.registry_of(str(Destination("oci", "out:app"))) == ""


class TestAccess:
    def options(self, words: list[str], scratch: Path) -> list[str]:
        given = pull.make_parser().parse([*words, "reg.example:5000/image"])
        return access.read(given, given.images).options("reg.example:5000", scratch)

    def test_credentials_are_in_no_command_line(self, tmp_path: Path) -> None:
        (option,) = self.options(["--creds", "me:se:cret"], tmp_path)
        path = Path(option.removeprefix("--authfile="))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        auth = json.loads(path.read_text())["auths"]["reg.example:5000"]["auth"]
        assert base64.b64decode(auth) == b"me:se:cret"

    @pytest.mark.parametrize(
        ("words", "names", "message"),
        [
            ([], ["one.example/a", "two.example/a"], "for which of the registries one.example, two.example"),
            ([], ["localhost/a"], "for which registry"),
            ([], [], "for which registry"),
            (["--creds-for", "one/x"], ["one.example/a"], "is no registry"),
            (["--creds-for", "short"], ["one.example/a"], "is no registry"),
            (["--creds-for", "-v"], ["one.example/a"], "expected one argument|is no registry"),
        ],
    )
    def test_credentials_for_nobody_in_particular(self, words: list[str], names: list[str], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            access.read(pull.make_parser().parse(["--creds", "u:p", *words, "x"]), names)

    @pytest.mark.parametrize(
        ("words", "names", "registries"),
        [
            ([], ["one.example/a", "docker://one.example/b", "localhost/c", "short"], {"one.example"}),
            ([], ["index.docker.io/a", "docker.io/b"], {"docker.io"}),
            (["--creds-for=[::1]:5000", "--creds-for", "a.example"], ["b.example/x"], {"[::1]:5000", "a.example"}),
            (["--creds-for", "index.docker.io"], [], {"docker.io"}),
        ],
    )
    def test_whose_credentials_they_are(self, words: list[str], names: list[str], registries: set[str]) -> None:
        given = pull.make_parser().parse(["--creds", "u:p", *words, "x"])
        assert access.read(given, names).creds_for == registries

    def test_nobody_for_whom_there_are_none(self) -> None:
        with pytest.raises(UsageError, match="--creds-for without --creds"):
            access.read(pull.make_parser().parse(["--creds-for", "a.example", "x"]))

    def test_a_dockerfile_does_not_say_who_gets_them(self, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").write_text("FROM evil.example/x\n")

        def access_of(*words: str) -> Access:
            given = build.make_parser().parse(["--creds", "u:p", *words, str(tmp_path)])
            return build.make_options(given, {}, Place(tmp_path))[0].access

        for words in (
            ["-t", "r.example/a"], ["-o", "docker://r.example/a"], ["--cache-from", "r.example/c"],
            ["--build-context", "b=docker-image://r.example/b"], ["-o", "type=registry,name=r.example/a"],
        ):  # fmt: skip
            assert access_of(*words).creds_for == {"r.example"}
        with pytest.raises(UsageError, match="for which registry"):
            access_of("-t", "app")

    def test_nobody_to_ask_for_a_password(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="password"):
            self.options(["--creds", "me"], tmp_path)

    def test_a_missing_authfile_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="missing"):
            self.options(["--authfile", str(tmp_path / "no")], tmp_path)

    def test_tls(self, tmp_path: Path) -> None:
        assert self.options(["--tls-verify=false"], tmp_path) == ["--tls-verify=false"]
        assert self.options([], tmp_path) == []


class TestPush:
    def run(self, words: list[str], tools: FakeTools, digest: str) -> list[str]:
        """Push with a skopeo that does nothing; returns its command line."""
        tools.answer("skopeo", "copy")
        original = Path.read_text

        def read_text(path: Path, *rest: object, **named: object) -> str:
            return digest if path.name == "digest" else original(path, *rest, **named)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "read_text", read_text)
            push.run(words)
        return tools.calls[-1]

    def test_the_manifest_must_arrive_as_it_is(
        self, maker: Maker, fake_tools: FakeTools, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = maker.image("a", tags=["localhost/app:latest"])
        words = self.run(["--tls-verify=false", "app", "reg.example/app:1"], fake_tools, found.descriptor.digest)
        assert {"--preserve-digests", "--dest-tls-verify=false"} <= set(words)
        assert "--all" not in words
        assert words[-1] == "docker://reg.example/app:1"
        assert capsys.readouterr().out == found.descriptor.digest + "\n"

    def test_another_digest_is_a_failure(self, maker: Maker, fake_tools: FakeTools) -> None:
        maker.image("a", tags=["localhost/app:latest"])
        with pytest.raises(ToolError, match="not the image's own digest"):
            self.run(["app", "reg.example/app:1"], fake_tools, "sha256:" + "0" * 64)

    def test_all_images_of_an_index(self, maker: Maker, fake_tools: FakeTools) -> None:
        index = maker.index([maker.image("a"), maker.image("b")], ["localhost/multi:latest"])
        assert "--all" in self.run(["multi", "reg.example/app:1"], fake_tools, index.digest)

    def test_an_archive_for_docker_knows_the_name(self, maker: Maker, fake_tools: FakeTools) -> None:
        maker.image("a", tags=["localhost/app:latest"])
        words = self.run(["app", "docker-archive:x.tar"], fake_tools, "sha256:" + "1" * 64)
        assert "--additional-tag=localhost/app:latest" in words
        assert "--preserve-digests" not in words


# Debian's skopeo 1.9.3 said these.
@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("reading manifest 2 in 127.0.0.1:1/a: manifest unknown: manifest unknown", "there is no such image"),
        ('Get "https://127.0.0.1:1/v2/": http: server gave HTTP response to HTTPS client', "speaks http, not https"),
        ("reading manifest 2 in 127.0.0.1:1/nope: unauthorized: authentication required", "refuses access"),
        ('Get "https://127.0.0.1:1/v2/": x509: certificate signed by unknown authority', "certificate is not trusted"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "cannot be reached"),
        ("dial tcp: lookup no.invalid on 10.0.0.1:53: no such host", "name cannot be resolved"),
        ("invalid status code from registry 500 (Internal Server Error)", "registry itself has failed"),
        ("docker-archive doesn't support modifying existing images", "is there already"),
        ("errors: denied: requested access to the resource is denied", "or it needs a login"),
        ("something that nobody has seen before", "skopeo failed"),
    ],
)
def test_what_skopeo_says_is_explained(said: str, meaning: str) -> None:
    error = explain(ToolError("skopeo", stderr=f"initializing source {said}"), "reg/app")
    assert error.message.startswith("reg/app: ") and meaning in error.message
    assert isinstance(error, ToolError) and said.split()[-1] in error.stderr


def test_its_chain_of_causes_is_shown_whole() -> None:
    words = " ".join(f"cause{number}:" for number in range(40))
    error = explain(ToolError("skopeo", stderr=words), "x")
    assert isinstance(error, ToolError)
    assert max(map(len, error.stderr.splitlines())) <= 74
    assert error.stderr.replace("\n", " ") == words
