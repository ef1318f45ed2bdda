"""COPY, ADD, WORKDIR."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orca.dispatch.files import absolute
from orca.dispatch.ops import DirectoryOp, FileOp, Step
from orca.dockerfile import modes, remotes
from orca.errors import DockerfileError
from orca.oci.image import ImageConfig

Translate = Callable[..., list[Step]]
BASE = ImageConfig(working_dir="/srv/app", user="daemon", env=(("PATH", "/bin"), ("D", "dir"), ("R", "X")))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x", "/srv/x"),
        ("x/", "/srv/x/"),
        (".", "/srv/"),
        ("./", "/srv/"),
        ("..", "/"),
        ("../../..", "/"),
        ("../x/.", "/x/"),
        ("/", "/"),
        ("//", "/"),
        ("//x", "/x"),
        ("/a//b/../c", "/a/c"),
        ("/a/", "/a/"),
        ("/../etc", "/etc"),
        ("...", "/srv/..."),
    ],
)
def test_absolute(path: str, expected: str) -> None:
    assert absolute(path, "/srv") == expected
    if not path.startswith("/"):
        assert absolute(path, "srv") == expected  # a base's WorkingDir need not be absolute


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("WORKDIR /x", "/x"),
        ("WORKDIR x", "/srv/app/x"),
        ("WORKDIR x/", "/srv/app/x"),
        ("WORKDIR ..", "/srv"),
        ("WORKDIR $D", "/srv/app/dir"),
        ("WORKDIR /", "/"),
        ("WORKDIR /process", "/process"),
        ("WORKDIR /proc/../ok", "/ok"),
    ],
)
def test_workdir(text: str, path: str, steps: Translate) -> None:
    (step,) = steps(text, base=BASE)
    assert (step.op, step.history) == (DirectoryOp(path, "daemon"), f"WORKDIR {path}")
    assert step.state.config.working_dir == path


def test_workdirs_build_on_one_another(steps: Translate) -> None:
    assert steps("WORKDIR a\nWORKDIR b\nWORKDIR ../c")[-1].history == "WORKDIR /a/c"


@pytest.mark.parametrize("path", ["/proc", "/proc/self", "/sys/", "/dev/shm", "/x/../dev"])
def test_workdir_of_the_container_is_refused(path: str, steps: Translate) -> None:
    with pytest.raises(DockerfileError, match="is not allowed"):
        steps(f"WORKDIR {path}")


def op(sources: tuple[str, ...], destination: str, **fields: Any) -> FileOp:
    return FileOp(sources, destination, **fields)


@pytest.mark.parametrize(
    ("text", "expected", "history"),
    [
        ("COPY a b", op(("a",), "/srv/app/b"), "COPY a /srv/app/b # orca"),
        ("COPY a b c/", op(("a", "b"), "/srv/app/c/"), "COPY a b /srv/app/c/ # orca"),
        ('COPY ["a b", "/c d"]', op(("a b",), "/c d"), "COPY a b /c d # orca"),
        ("COPY $D/*.txt /$D", op(("dir/*.txt",), "/dir"), "COPY dir/*.txt /dir # orca"),
        ("COPY --chown=$D:5 --chmod=0755 a /", op(("a",), "/", chown="dir:5", chmod=0o755),
         "COPY --chown=dir:5 --chmod=0755 a / # orca"),
        ("COPY --chmod=4755 a /", op(("a",), "/", chmod=0o4755), "COPY --chmod=4755 a / # orca"),
        ("COPY --from=Stage a .", op(("a",), "/srv/app/", from_="Stage"), "COPY a /srv/app/ # orca"),
        ("COPY --link a /", op(("a",), "/", link=True), "COPY a / # orca"),
        ("COPY --chmod=u=rwX,go=r$R a /", op(("a",), "/", chmod=modes.parse("u=rwX,go=rX")),
         "COPY --chmod=u=rwX,go=rX a / # orca"),
        ("COPY --parents --exclude=$D/*.o --exclude=!x ./a /b", op(
            ("./a",), "/b", parents=True, exclude=("dir/*.o", "!x")),
         "COPY --parents --exclude=dir/*.o --exclude=!x ./a /b # orca"),
        ("ADD --link --exclude=x a /", op(("a",), "/", unpack=None, link=True, exclude=("x",)),
         "ADD --exclude=x a / # orca"),
        ("ADD a.tar /x/", op(("a.tar",), "/x/", unpack=None), "ADD a.tar /x/ # orca"),
        ("ADD --unpack=false a.tar /x/", op(("a.tar",), "/x/"), "ADD a.tar /x/ # orca"),
        ("ADD --unpack a.tar /x/", op(("a.tar",), "/x/", unpack=True), "ADD a.tar /x/ # orca"),
        ("ADD --chown=1 --chmod=600 a /x", op(("a",), "/x", unpack=None, chown="1", chmod=0o600),
         "ADD --chown=1 --chmod=600 a /x # orca"),
    ],
)  # fmt: skip
def test_copy_and_add(text: str, expected: FileOp, history: str, steps: Translate) -> None:
    (step,) = steps(text, base=BASE)
    assert step.op == expected
    assert step.history == history
    assert step.state.config == BASE  # nothing of the config changes


def test_heredocs_expand_unless_quoted(steps: Translate) -> None:
    text = "COPY <<one <<'two' x /d/\n$D \\$D '$D'\none\n$D\ntwo"
    (step,) = steps(text, base=BASE)
    assert isinstance(step.op, FileOp)
    assert [(doc.name, doc.body) for doc in step.op.contents] == [("one", "dir $D 'dir'\n"), ("two", "$D\n")]
    assert step.op.sources == ("x",)
    assert step.history == "COPY x <<one <<two /d/ # orca"


SHA = "c" * 64


def far(word: str, **fields: Any) -> Any:
    found = remotes.parse(word)
    assert found is not None
    return replace(found, **fields)


@pytest.mark.parametrize(
    ("text", "expected", "history"),
    [
        ("ADD https://u:pw@h.org/a.tar /x/", op((), "/x/", unpack=None, remotes=(far("https://u:pw@h.org/a.tar"),)),
         "ADD https://***@h.org/a.tar /x/ # orca"),
        ("ADD a $U /x/", op(("a",), "/x/", unpack=None, remotes=(far("https://example.org/x"),)),
         "ADD a https://example.org/x /x/ # orca"),
        ("ADD --unpack http://h/a /x", op((), "/x", unpack=True, remotes=(far("http://h/a"),)),
         "ADD http://h/a /x # orca"),
        (f"ADD --checksum=sha256:{SHA} http://h/a /x",
         op((), "/x", unpack=None, remotes=(far("http://h/a", checksum=SHA),)),
         "ADD http://h/a /x # orca"),
        ("ADD --keep-git-dir --checksum=abcdef1 git@h.org:a/b.git#v1:sub /x",
         op((), "/x", unpack=None,
            remotes=(far("git@h.org:a/b.git#v1:sub", checksum="abcdef1", keep_git_dir=True),)),
         "ADD git@h.org:a/b.git#v1:sub /x # orca"),
    ],
)  # fmt: skip
def test_add_from_elsewhere(text: str, expected: FileOp, history: str, steps: Translate) -> None:
    (step,) = steps(text, base=ImageConfig(env=(("U", "https://example.org/x"),)))
    assert step.op == expected
    assert step.history == history
    assert "pw" not in f"{step.op} {step.op.ingredients()} {step.op.describe()}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COPY https://u:pw@h/a /", r"COPY cannot copy from https://\*\*\*@h/a"),
        (f"ADD --checksum=sha256:{SHA} a /", "--checksum is for URLs and git repositories"),
        (f"ADD --checksum=sha256:{SHA} http://h/a http://h/b /", "--checksum is for a single source"),
        ("ADD --checksum=md5:1 http://h/a /", "bad checksum 'md5:1'"),
        (f"ADD --checksum=sha256:{SHA} git@h:a.git /", "bad checksum"),
        ("ADD git://h/a.git#-u /", "'-u' is not a git ref"),
        ("ADD git://h/a.git#main:../x /", "not inside the repository"),
        ("ADD https:///x /", "has no right host name"),
    ],
)
def test_bad_remotes(text: str, message: str, steps: Translate) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        steps(text)
    assert caught.value.location is not None
    assert caught.value.location.line == 2
    assert "pw" not in str(caught.value.location)


def test_flags_that_are_off_are_no_flags(steps: Translate) -> None:
    assert steps("COPY --link=false --parents=false a /b")[0].op == op(("a",), "/b")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("COPY --chmod=rwx a /", "bad mode --chmod=rwx"),
        ("COPY --chmod=u=rwz a /", "bad mode --chmod=u=rwz"),
        ("COPY --chmod=9 a /", "bad mode --chmod=9"),
        ("COPY --exclude=[ a /", "bad pattern of --exclude: a \\[ is not closed"),
        ("ADD --exclude=! a /", "bad pattern of --exclude: a ! without a pattern"),
        ("COPY --exclude=" + "*" * 100_001 + " a /", "bad pattern of --exclude: the patterns have more than"),
    ],
)
def test_bad_flags(text: str, what: str, steps: Translate) -> None:
    with pytest.raises(DockerfileError, match=what) as caught:
        steps(text)
    assert caught.value.location is not None
    assert caught.value.location.line == 2


def test_ingredients_tell_flags_apart(steps: Translate) -> None:
    texts = ["a", "--link a", "--parents a", "--exclude=x a", "--chmod=a+x a", "--chmod=755 a", "--chown=5 a"]
    found = [str(steps(f"COPY {text} /b")[0].op.ingredients()) for text in texts]
    assert len(set(found)) == len(texts)
    # As a record has them: JSON.
    assert all(json.dumps(steps(f"COPY {text} /b")[0].op.ingredients()) for text in texts)
    # ADD's own way with local archives and --unpack=true are the same for these.
    one, two = (steps(f"ADD {flag} a /b")[0].op.ingredients() for flag in ("", "--unpack"))
    assert one == two != steps("ADD --unpack=false a /b")[0].op.ingredients()
