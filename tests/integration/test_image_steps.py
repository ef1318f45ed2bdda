"""IMAGE@N: every step of a build by the number that the build showed."""

from __future__ import annotations

import json

from support.kitchen import BASE, Kitchen

DOCKERFILE = f"""\
FROM {BASE} AS one
RUN echo a > /a
FROM {BASE}
HEALTHCHECK CMD /bin/true
RUN echo b > /b
COPY --from=one /a /c
CMD ["/bin/last"]
"""


def config(kitchen: Kitchen, name: str) -> dict[str, object]:
    found = json.loads(kitchen.orca("inspect", name).stdout)[0]
    assert isinstance(found["config"]["config"], dict)
    return found["config"]["config"]


def test_each_step_of_each_stage(fresh: Kitchen) -> None:
    fresh.build(DOCKERFILE, "-t", "app")
    seen = {n: fresh.orca("run", f"app@{n}", "/bin/ls", "/").stdout.split() for n in range(1, 8)}
    assert "a" not in seen[1] and "a" in seen[2]
    assert not {"a", "b", "c"} & set(seen[3] + seen[4])
    assert "b" in seen[5] and "c" not in seen[5]
    assert {"b", "c"} <= set(seen[6]) and "a" not in seen[6]


def test_a_step_has_all_of_its_config(fresh: Kitchen) -> None:
    fresh.build(DOCKERFILE, "-t", "app", "--label", "x=y")
    assert "Healthcheck" not in config(fresh, "app@3")
    assert config(fresh, "app@4")["Healthcheck"] == {"Test": ["CMD-SHELL", "/bin/true"]}
    assert config(fresh, "localhost/app:latest@6").get("Cmd") == config(fresh, "app@3").get("Cmd")
    assert config(fresh, "app@7")["Cmd"] == ["/bin/last"]
    assert "Labels" not in config(fresh, "app@7")


def test_a_later_build_that_shares_the_cache(fresh: Kitchen) -> None:
    context = fresh.context({"Dockerfile": f"FROM {BASE}\nRUN echo b > /b\nRUN echo c > /c\n"})
    first = fresh.build(context, "-t", "first")
    other = fresh.context({"Dockerfile": f"FROM {BASE} AS x\nRUN echo b > /b\nFROM x\nRUN echo d > /d\n"})
    second = fresh.build(other, "-t", "second")
    listing = {name: fresh.orca("run", name, "/bin/ls", "/").stdout for name in ("first@2", "second@2", "second@3")}
    assert len(set(listing.values())) == 1
    assert "d" in fresh.orca("run", "second@4", "/bin/ls", "/").stdout.split()
    assert "c" in fresh.orca("run", f"{first.digest[7:19]}@3", "/bin/ls", "/").stdout.split()
    assert second.digest != first.digest
    again = fresh.build(context, "-t", "again")
    assert again.digest == first.digest
    assert fresh.orca("run", "again@3", "/bin/cat", "/c").stdout == "c\n"


def test_a_stage_that_only_cached_steps_read(fresh: Kitchen) -> None:
    context = fresh.context({"Dockerfile": DOCKERFILE})
    fresh.build(context, "-t", "app")
    fresh.build(context, "-t", "app")
    assert fresh.orca("run", "app@2", "/bin/cat", "/a").stdout == "a\n"


def test_the_tree_of_a_build(fresh: Kitchen) -> None:
    fresh.build(DOCKERFILE, "-t", "app")
    lines = fresh.orca("tree", "app").stdout.splitlines()
    assert [line.split()[0] for line in lines if "stage" in line] == ["├─", "└─"]
    assert lines[1] == "├─ stage 1" and lines[7] == "└─ stage one, copied from"
    assert [line.split("─")[1].split()[0] for line in lines[2:7]] == ["3", "4", "5", "6", "7"]
    rows = json.loads(fresh.orca("tree", "--json", "app").stdout)
    assert [(row["step"], row["own"], row["layer"] is not None) for row in rows] == [
        (1, False, False), (2, False, True), (3, True, False), (4, True, False), (5, True, True), (6, True, True),
        (7, True, False),
    ]  # fmt: skip
    assert "history" in fresh.orca("tree", BASE).stdout


def test_from_tag_push_and_unpack_take_a_step(fresh: Kitchen) -> None:
    fresh.build(DOCKERFILE, "-t", "app")
    fresh.orca("tag", "app@5", "five")
    made = fresh.build("FROM app@5\nRUN test -e /b && ! test -e /c\n")
    assert config(fresh, "five")["Healthcheck"] == made.config["Healthcheck"]
    fresh.orca("unpack", "app@5", fresh.orca.top / "five")
    assert (fresh.orca.top / "five/b").read_text() == "b\n"
    fresh.orca("push", "app@5", f"oci:{fresh.orca.top}/out:five")
    assert (fresh.orca.top / "out/index.json").is_file()
    fresh.orca("prune")
    assert fresh.orca("run", "app@2", "/bin/cat", "/a").stdout == "a\n"


def test_what_is_no_step(fresh: Kitchen) -> None:
    fresh.build(f"FROM {BASE}\nENV a=b\n", "-t", "app")
    for name, message in (
        ("app@9", "app has no step 9: its build had 1 to 2"),
        ("app@0", "app has no step 0"),
        (f"{BASE}@1", f"which steps made {BASE} is not known"),
        ("nothing@2", "no image 'nothing@2' in the store"),
        ("aap@1", "did you mean app?"),
        ("Bad@1", "bad image name 'Bad'"),
    ):
        result = fresh.orca("inspect", name, check=False)
        assert result.returncode == (2 if "bad" in message else 125), result
        assert message in " ".join(result.stderr.split())
        assert result.stdout == ""
    fresh.orca("prune", "--all")
    result = fresh.orca("inspect", "app@2", check=False)
    assert "step 2 of app is not in the store" in result.stderr
    assert result.returncode == 125
