"""images, inspect, history, tag, rm, prune: on a store of made-up images, no tool needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.stores import Maker

from orca.cli import history, images, inspect, prune, rm, tag
from orca.cli.imagefilters import Row
from orca.errors import ImageError, StoreError, UsageError
from orca.oci import image
from orca.oci.image import History, ImageConfig
from orca.store import chains
from orca.ui.human import cells

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def out(capsys: Capture) -> Callable[[], str]:
    """What was printed on standard output since it was last asked."""
    return lambda: capsys.readouterr().out


def columns(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def rows_of(maker: Maker) -> list[Row]:
    return images.read(maker.store.images, maker.store.tags(), maker.store.root / "cache/facts.json")


class TestImages:
    def test_a_row_for_each_name_the_newest_first(self, maker: Maker, out: Callable[[], str]) -> None:
        maker.image("a", tags=["localhost/old:latest"])
        new = ImageConfig(architecture="amd64", created="2025-01-01T00:00:00Z")
        found = maker.image("a" * 1500, "b", tags=["reg.example:5000/x/new:1"], config=new)
        assert images.run([]) == 0
        header, first, second = columns(out())
        assert header == ["REPOSITORY", "TAG", "DIGEST", "CREATED", "SIZE", "LAYERS"]
        assert first[:3] == ["reg.example:5000/x/new", "1", found.descriptor.digest[7:19]]
        assert first[4:] == ["1.5 kB", "2"]
        assert second[0] == "localhost/old"

    def test_a_damaged_image_is_shown_and_is_not_fatal(self, maker: Maker, out: Callable[[], str]) -> None:
        whole = maker.image("a", tags=["localhost/whole:latest"])
        for number, what in enumerate(("manifest", "config", "layer")):
            found = maker.image(f"only {what}", tags=[f"localhost/d{number}:latest"])
            blob = {
                "manifest": found.descriptor,
                "config": found.manifest.config,
                "layer": found.manifest.layers[0],
            }[what]
            maker.store.images.blob_path(blob.digest).unlink()
        assert images.run(["--json"]) == 0
        rows = {row["name"]: row for row in json.loads(out())}
        assert rows["localhost/whole:latest"]["error"] is None
        assert rows["localhost/whole:latest"]["digest"] == whole.descriptor.digest
        assert all("missing" in rows[f"localhost/d{number}:latest"]["error"] for number in range(3))
        images.run([])
        assert out().count("damaged") == 3

    def test_what_an_image_says_is_escaped_and_aligned(self, maker: Maker, out: Callable[[], str]) -> None:
        maker.image("a", tags=["localhost/漢字:latest", "localhost/\x1b[2Jx:latest", "localhost/plain:latest"])
        images.run([])
        text = out()
        assert "\x1b" not in text and "\\x1b[2Jx" in text
        places = {cells(line[: line.index("latest")]) for line in text.splitlines()[1:]}
        assert len(places) == 1

    def test_long_names_lose_their_beginning_on_a_narrow_terminal(self, maker: Maker) -> None:
        maker.image("a", tags=["reg.example:5000/team/" + "long/" * 10 + "名前app:1", "localhost/x:latest"])
        rows = images.read(maker.store.images, maker.store.tags())
        text = images.render(rows, 80, whole=False)
        assert max(map(cells, text.splitlines())) <= 80
        assert "名前app  1 " in text and "…" in text
        assert "reg.example:5000/team/long" in images.render(rows, None, whole=False)

    def test_quiet_prints_each_digest_once(self, maker: Maker, out: Callable[[], str]) -> None:
        found = maker.image("a", tags=["localhost/a:1", "localhost/a:2"])
        images.run(["-q"])
        assert out() == found.descriptor.digest + "\n"

    def test_patterns_choose_by_name(self, maker: Maker, out: Callable[[], str]) -> None:
        maker.image("a", tags=["localhost/app:1", "localhost/apple:1", "reg.example/x/app:2", "localhost/b:1"])
        images.run(["app", "--json"])
        assert [row["name"] for row in json.loads(out())] == ["localhost/app:1", "reg.example/x/app:2"]
        images.run(["app*", "--json"])
        assert len(json.loads(out())) == 3

    def test_each_manifest_and_config_is_read_once(self, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        maker.image("a", tags=["localhost/a:1", "localhost/a:2", "localhost/a:3"])
        read: list[str] = []
        original = type(maker.store.images).read

        def counting(layout, descriptor, what):  # type: ignore[no-untyped-def]
            read.append(descriptor.digest)
            return original(layout, descriptor, what)

        monkeypatch.setattr(type(maker.store.images), "read", counting)
        images.run([])
        assert len(read) == len(set(read)) == 2

    @pytest.mark.parametrize(
        ("name", "parts"),
        [
            ("localhost/app:1", ("localhost/app", "1")),
            ("host:5000/app", ("host:5000/app", "")),
            ("host:5000/app:v", ("host:5000/app", "v")),
            ("host/app@sha256:00", ("host/app", "")),
        ],
    )
    def test_names_are_split_at_the_tag(self, name: str, parts: tuple[str, str]) -> None:
        assert images.split_name(name) == parts

    @pytest.mark.parametrize("text", [None, "", "yesterday", "99999-01-01T00:00:00Z"])
    def test_a_time_that_is_none(self, text: str | None) -> None:
        assert images.age(text) == "-"

    def test_nanoseconds_are_a_time(self) -> None:
        assert images.timestamp("2024-01-02T03:04:05.123456789Z") == pytest.approx(1704164645.123456)

    def test_what_was_read_once_is_not_read_again(self, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        found = maker.image("a", tags=["localhost/a:1"], config=ImageConfig(labels=(("x", "1"),)))
        maker.index([found], ["localhost/multi:1"])
        first = [images.to_json(row) for row in rows_of(maker)]
        monkeypatch.setattr(type(maker.store.images), "read", lambda *_: pytest.fail("read again"))
        assert [images.to_json(row) for row in rows_of(maker)] == first
        maker.store.images.blob_path(found.manifest.layers[0].digest).write_text("longer")
        monkeypatch.undo()
        assert all("missing or has the wrong size" in str(row.facts.error) for row in rows_of(maker))

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"version":1,"images":[]}', '{"version":1,"images":{"@":{"blobs":1}}}']
    )
    def test_a_damaged_memory_is_made_anew(self, maker: Maker, text: str) -> None:
        found = maker.image("a", tags=["localhost/a:1"])
        path = maker.store.root / "cache/facts.json"
        path.write_text(text.replace("@", found.descriptor.digest))
        assert [row.facts.size for row in rows_of(maker)] == [1]
        assert found.descriptor.digest in json.loads(path.read_text())["images"]

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["reference=a*"], ["localhost/a:1"]),
            (["reference=a", "reference=b"], ["localhost/b:1", "localhost/a:1"]),
            (["label=x"], ["localhost/b:1", "localhost/a:1"]),
            (["label=x=1"], ["localhost/a:1"]),
            (["label!=x=1"], ["localhost/c:1", "localhost/b:1"]),
            (["label=x", "label=y=z"], ["localhost/b:1"]),
            (["before=b:1"], ["localhost/a:1"]),
            (["since=b:1"], ["localhost/c:1"]),
            (["after=b:1"], ["localhost/c:1"]),
            (["until=2021-06-01"], ["localhost/a:1"]),
            (["until=1s"], ["localhost/c:1", "localhost/b:1", "localhost/a:1"]),
            (["dangling=false"], ["localhost/c:1", "localhost/b:1", "localhost/a:1"]),
            (["dangling=true"], [""]),
        ],
    )
    def test_filters(self, maker: Maker, out: Callable[[], str], words: list[str], expected: list[str]) -> None:
        labels = {"a": (("x", "1"),), "b": (("x", "2"), ("y", "z")), "c": ()}
        for number, name in enumerate("abc"):
            config = ImageConfig(created=f"202{number + 1}-01-02T00:00:00Z", labels=labels[name])
            maker.image(name, tags=[f"localhost/{name}:1"], config=config)
        nameless = maker.image("n")
        chains.write(maker.store.root, nameless.descriptor.digest, [])
        images.run([*(f"--filter={word}" for word in words), "--format", "{{.Name}}"])
        assert out().splitlines() == expected
        images.run(["--all", "-q"])
        assert nameless.descriptor.digest in out()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--filter", "x"], "is not understood"),
            (["--filter", "size=3"], "is not understood"),
            (["--filter", "dangling=maybe"], "neither true nor false"),
            (["--filter", "until=never"], "is not a time"),
            (["--filter", "until!=3"], "only label has !="),
            (["--format", "{{.Nothing}}"], "no field .Nothing"),
        ],
    )
    def test_bad_filters_and_formats(self, maker: Maker, words: list[str], message: str) -> None:
        maker.image("a", tags=["localhost/a:1"])
        with pytest.raises(UsageError, match=message):
            images.run(words)

    def test_a_table_of_chosen_fields(self, maker: Maker, out: Callable[[], str]) -> None:
        found = maker.image("a", tags=["localhost/a:1"])
        images.run(["--format", "table {{.Repository}}\\t{{.ID}}"])
        assert columns(out()) == [["REPOSITORY", "ID"], ["localhost/a", found.descriptor.digest[7:19]]]
        images.run(["--noheading"])
        assert out().startswith("localhost/a ")
        images.run(["--format", "json"])
        assert json.loads(out())[0]["labels"] == {}


class TestInspect:
    def test_format_takes_dockers_words_and_ours(self, maker: Maker, out: Callable[[], str]) -> None:
        config = ImageConfig(architecture="amd64", env=(("A", "1"),), labels=(("x", "\x1b[2J"),))
        found = maker.image("a", tags=["localhost/app:1"], config=config)
        inspect.run(["-f", "{{.Id}} {{json .Config.Env}} {{.Architecture}} {{.layers}} {{.RepoTags}}", "app:1"])
        assert out() == f'{found.descriptor.digest} ["A=1"] amd64 1 [localhost/app:1]\n'
        inspect.run(["-f", '{{index .Config.Labels "x"}}', "app:1"])
        assert out() == "\\x1b[2J\n"
        with pytest.raises(UsageError, match="do not go together"):
            inspect.run(["--raw", "-f", "{{.Id}}", "app:1"])

    def test_every_field_of_the_config_is_there(self, maker: Maker, out: Callable[[], str]) -> None:
        config = ImageConfig(  # noqa: S604  # an image's SHELL starts nothing here
            architecture="arm64",
            variant="v8",
            healthcheck={"Test": ["CMD", "x"]},
            onbuild=("RUN y",),
            shell=("/bin/ash",),
        )
        found = maker.image("a", tags=["localhost/app:1", "localhost/app:2"], config=config)
        inspect.run(["app:1"])
        (value,) = json.loads(out())
        assert value["digest"] == found.descriptor.digest
        assert value["names"] == ["localhost/app:1", "localhost/app:2"]
        assert value["platform"] == "linux/arm64/v8"
        assert value["size"] == 1
        assert value["manifest"]["layers"][0]["digest"] == found.manifest.layers[0].digest
        run = value["config"]["config"]
        assert (run["Healthcheck"], run["OnBuild"], run["Shell"]) == ({"Test": ["CMD", "x"]}, ["RUN y"], ["/bin/ash"])

    def test_unknown_fields_are_shown_too(self, maker: Maker, out: Callable[[], str]) -> None:
        found = maker.image("a")
        config = {**found.config.to_json(), "com.example": {"a": 1}}
        blob = maker.store.images.put(json.dumps(config).encode(), image.CONFIG)
        manifest = {**found.manifest.to_json(), "config": blob.to_json()}
        descriptor = maker.store.images.put(json.dumps(manifest).encode(), image.MANIFEST)
        inspect.run([descriptor.digest])
        assert json.loads(out())[0]["config"]["com.example"] == {"a": 1}

    def test_raw_is_the_bytes(self, maker: Maker, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        found = maker.image("a", tags=["localhost/app:latest"])
        inspect.run(["--raw", "app"])
        data = capfdbinary.readouterr().out
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == found.descriptor.digest

    def test_out_of_an_index_by_platform(self, maker: Maker, out: Callable[[], str]) -> None:
        pair = [maker.image("a"), maker.image("b")]
        index = maker.index(pair, ["localhost/multi:latest"])
        inspect.run(["--platform", "linux/arm64", "multi"])
        (value,) = json.loads(out())
        assert (value["digest"], value["index"]) == (pair[1].descriptor.digest, index.digest)
        assert value["names"] == ["localhost/multi:latest"]

    def test_json_cannot_drive_a_terminal_and_stays_the_same(self, maker: Maker, out: Callable[[], str]) -> None:
        nasty = "\x1b[2J \x9b2J \u202e evil 漢字 \U000e0041"
        maker.image("a", tags=["localhost/app:latest"], config=ImageConfig(labels=(("x", nasty),)))
        inspect.run(["app"])
        text = out()
        assert not any(char in text for char in "\x1b\x9b\u202e\U000e0041")
        assert "漢字" in text
        assert json.loads(text)[0]["config"]["config"]["Labels"]["x"] == nasty

    def test_unknown_names_come_with_a_near_one(self, maker: Maker) -> None:
        maker.image("a", tags=["localhost/webserver:latest"])
        with pytest.raises(StoreError) as told:
            inspect.run(["websrver"])
        assert told.value.hint == "did you mean webserver?"

    def test_a_pulled_short_name(self, maker: Maker, out: Callable[[], str]) -> None:
        maker.image("a", tags=["docker.io/library/debian:12"])
        inspect.run(["debian:12"])
        assert json.loads(out())[0]["names"] == ["docker.io/library/debian:12"]


class TestHistory:
    def test_newest_first_with_the_layer_of_each(self, maker: Maker, out: Callable[[], str]) -> None:
        entries = [
            History(created_by="COPY a"),
            History(created_by="ENV x", empty_layer=True),
            History(created_by="RUN b"),
        ]
        found = maker.image("aa", "bbb", tags=["localhost/app:latest"], history=entries)
        history.run(["--json", "app"])
        rows = json.loads(out())
        assert [(row["created_by"], row["size"], row["layer"]) for row in rows] == [
            ("RUN b", 3, found.manifest.layers[1].digest),
            ("ENV x", 0, None),
            ("COPY a", 2, found.manifest.layers[0].digest),
        ]

    def test_layers_without_history_are_shown(self, maker: Maker, out: Callable[[], str]) -> None:
        maker.image("a", "b", tags=["localhost/app:latest"], history=[])
        history.run(["app"])
        assert len(out().splitlines()) == 3

    def test_an_instruction_is_one_line_and_cut_to_the_width(self, maker: Maker) -> None:
        entries = [History(created_by="RUN a\n\x1b[31mb" + "漢" * 200)]
        rows = history.entries(maker.image("a", history=entries))
        text = history.render(rows, 80, whole=False)
        assert len(text.splitlines()) == 2
        assert max(map(cells, text.splitlines())) <= 80
        assert "RUN a\\n\\x1b[31mb漢" in text and "…" in text

    def test_quiet_and_format(self, maker: Maker, out: Callable[[], str]) -> None:
        found = maker.image("aa", tags=["localhost/app:latest"], history=[History(created_by="RUN x")])
        history.run(["-q", "app"])
        assert out() == found.manifest.layers[0].digest + "\n"
        history.run(["--format", "{{.CreatedBy}} {{.Bytes}}", "app"])
        assert out() == "RUN x 2\n"

    def test_the_tools_of_the_build_that_made_a_layer(self, maker: Maker, out: Callable[[], str]) -> None:
        found = maker.image("aa", tags=["localhost/app:latest"])
        record = replace(maker.step("RUN x", found), build="b1", number=2)
        maker.store.put_step(record)
        link = chains.Link(2, "0", "RUN x", record.key, True, found.descriptor)
        chains.write(maker.store.root, found.descriptor.digest, [link])
        place = maker.store.root / "builds/b1"
        place.mkdir()
        calls = [(1, ["skopeo", "copy"]), (2, ["/usr/sbin/runc", "run"]), (2, ["umoci", "raw", "add-layer"])]
        lines = [json.dumps({"step": n, "call": 1, "argv": a}, separators=(",", ":")) for n, a in calls]
        (place / "events.jsonl").write_text("\n".join(lines))
        history.run(["--json", "app"])
        assert json.loads(out())[0]["tools"] == ["runc", "umoci raw add-layer"]

    def test_not_cut_for_programs(self, maker: Maker, out: Callable[[], str]) -> None:
        maker.image("a", tags=["localhost/app:latest"], history=[History(created_by="RUN " + "x" * 300)])
        history.run(["app"])
        assert "x" * 300 in out()


class TestTag:
    def test_full_names_are_given_and_printed(self, maker: Maker, out: Callable[[], str]) -> None:
        found = maker.image("a", tags=["localhost/app:latest"])
        tag.run(["app", "app:1", "reg.example:5000/x"])
        assert out().split() == ["localhost/app:1", "reg.example:5000/x:latest"]
        assert maker.store.tags()["reg.example:5000/x:latest"].digest == found.descriptor.digest

    def test_a_name_moves(self, maker: Maker) -> None:
        maker.image("a", tags=["localhost/a:latest"])
        other = maker.image("b", tags=["localhost/b:latest"])
        tag.run(["b", "a"])
        assert maker.store.tags()["localhost/a:latest"].digest == other.descriptor.digest

    def test_by_digest_without_a_name_and_an_index_stays_one(self, maker: Maker) -> None:
        nameless = maker.image("a")
        index = maker.index([nameless], ["localhost/multi:latest"])
        tag.run([nameless.descriptor.digest, "found"])
        tag.run(["multi", "again"])
        tags = maker.store.tags()
        assert tags["localhost/found:latest"].digest == nameless.descriptor.digest
        assert (tags["localhost/again:latest"].digest, tags["localhost/again:latest"].media_type) == (
            index.digest,
            image.INDEX,
        )

    def test_a_layer_is_no_image(self, maker: Maker) -> None:
        found = maker.image("a", tags=["localhost/app:latest"])
        with pytest.raises(ImageError):
            tag.run([found.manifest.layers[0].digest, "x"])

    @pytest.mark.parametrize("name", ["Bad", "x@sha256:" + "0" * 64, "-x", ""])
    def test_bad_names(self, maker: Maker, name: str) -> None:
        maker.image("a", tags=["localhost/app:latest"])
        with pytest.raises(UsageError):
            tag.run(["app", name])
        assert list(maker.store.tags()) == ["localhost/app:latest"]


class TestRm:
    def test_a_name_alone_goes(self, maker: Maker, capsys: Capture) -> None:
        maker.image("a", tags=["localhost/a:1", "localhost/a:2"])
        assert rm.run(["a:1"]) == 0
        said = capsys.readouterr()
        assert (said.out, said.err) == ("localhost/a:1\n", "")
        assert list(maker.store.tags()) == ["localhost/a:2"]

    def test_a_digest_is_all_its_names_and_what_nothing_needs_goes(self, maker: Maker, capsys: Capture) -> None:
        found = maker.image("a", "shared", tags=["localhost/a:1", "localhost/a:2"])
        other = maker.image("b", "shared", tags=["localhost/b:1"])
        kept = maker.image("c")
        rm.run([found.descriptor.digest[7:19]])
        assert list(maker.store.tags()) == ["localhost/b:1"]
        assert capsys.readouterr().err.startswith("freed ")
        assert not maker.store.images.has(found.descriptor)
        assert not maker.store.images.has(found.manifest.layers[0])
        maker.store.images.verify(other)
        assert maker.store.images.has(kept.descriptor)

    def test_what_the_step_cache_needs_stays(self, maker: Maker, capsys: Capture) -> None:
        found = maker.image("a", tags=["localhost/a:1"])
        maker.step("RUN a", found)
        rm.run(["a:1"])
        assert "orca prune" in capsys.readouterr().err
        maker.store.images.verify(found)

    def test_beside_a_running_build_nothing_is_deleted(self, maker: Maker, capsys: Capture) -> None:
        found = maker.image("a", tags=["localhost/a:1"])
        with maker.store.in_use():
            assert rm.run(["a:1"]) == 0
        assert "in use" in capsys.readouterr().err
        assert maker.store.tags() == {}
        maker.store.images.verify(found)

    def test_all_or_none(self, maker: Maker) -> None:
        maker.image("a", tags=["localhost/app:latest"])
        with pytest.raises(StoreError) as told:
            rm.run(["app", "ap"])
        assert told.value.hint == "did you mean app?"
        assert list(maker.store.tags()) == ["localhost/app:latest"]

    def test_force_does_not_mind(self, maker: Maker) -> None:
        maker.image("a", tags=["localhost/app:latest"])
        assert rm.run(["-f", "app", "ap"]) == 0
        assert maker.store.tags() == {}

    def test_a_damaged_image_can_be_removed(self, maker: Maker) -> None:
        found = maker.image("a", tags=["localhost/app:latest"])
        maker.store.images.blob_path(found.descriptor.digest).unlink()
        rm.run(["app"])
        assert maker.store.tags() == {}

    def test_everything(self, maker: Maker) -> None:
        maker.image("a", tags=["localhost/a:1", "reg.example/b:1"])
        rm.run(["--all"])
        assert maker.store.tags() == {}

    @pytest.mark.parametrize("words", [[], ["--all", "app"]])
    def test_either_names_or_all(self, maker: Maker, words: list[str]) -> None:
        with pytest.raises(UsageError):
            rm.run(words)


@pytest.mark.root
class TestPrune:
    """As root: an ordinary user's prune forks into the sandbox, which the integration tests do."""

    def test_json_and_dry_run(self, maker: Maker, out: Callable[[], str]) -> None:
        found = maker.image("aaa")
        prune.run(["--dry-run", "--json"])
        value = json.loads(out())
        assert value["dryRun"] and value["kinds"]["blobs"]["count"] == 3
        assert maker.store.images.has(found.descriptor)
        prune.run(["--json"])
        assert json.loads(out())["bytes"] == value["bytes"]
        assert not maker.store.images.has(found.descriptor)

    def test_people_are_told_what_stays(self, maker: Maker, capsys: Capture) -> None:
        maker.step("RUN x", maker.image("a"))
        prune.run([])
        said = capsys.readouterr()
        assert said.out == "freed 0 B (0 bytes)\n"
        assert "1 cached step," in said.err and "--all" in said.err

    def test_a_running_build_is_not_disturbed(self, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        found = maker.image("a")
        clock = iter([0.0, *[100.0] * 10])
        monkeypatch.setattr("orca.store.store.time.monotonic", lambda: next(clock))
        with maker.store.in_use(), pytest.raises(StoreError, match="in use"):
            prune.run([])
        assert maker.store.images.has(found.descriptor)
