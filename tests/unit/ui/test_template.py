"""--format: what is understood of Go's templates."""

from __future__ import annotations

from typing import Any

import pytest

from orca.errors import UsageError
from orca.ui.template import parse, print_rows

ROW: dict[str, Any] = {
    "Name": "a\x1b[2Jb",
    "Labels": {"x": "y", "z": "1"},
    "Env": ["A=1", "B=2"],
    "Config": {"Cmd": None, "Shell": ["sh"]},
    "Yes": True,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.Name}}", "a\\x1b[2Jb"),
        ("{{ .Config.Shell }}", "[sh]"),
        ("{{-.yes-}}", "true"),
        ("{{.Labels}}", "map[x:y z:1]"),
        ("{{json .Env}}", '["A=1","B=2"]'),
        ("{{json .Name}}", '"a\\u001b[2Jb"'),
        ("{{.Config.Cmd}}|{{.Config.Cmd.Below}}", "<no value>|<no value>"),
        ('{{index .Labels "x"}}{{index .Labels "none"}}{{index .Env 1}}', "yB=2"),
        ("{{range .Env}}<{{.}}>{{end}}", "<A=1><B=2>"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{if .Config.Cmd}}y{{else}}n{{end}}{{if .Yes}}y{{end}}", "ny"),
        ('{{join .Env ", "}} {{len .Env}} {{upper "x"}}{{lower "X"}}', "A=1, B=2 2 Xx"),
        ("{{println .Yes}}plain\\t", "true\nplain\t"),
    ],
)
def test_render(text: str, expected: str) -> None:
    assert parse(text).render(ROW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{.Nope}}", "{{", "x}}", "{{range .Env}}", "{{end}}", "{{else}}", "{{foo .X}}", "{{.Name.X}}", "{{}}",
        "{{print}}", "{{index}}", "{{join .Env}}", "{{.Name .Yes}}", "{{len .Yes}}", "{{range .Name}}x{{end}}",
        "{{index .Env 9}}", "{{json x}}", "{{range .Env}}" * 30 + "{{end}}" * 30,
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--format"):
        parse(text).render(ROW)


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("table {{.CreatedAt}}\\t{{.ID}}", [{"CreatedAt": "now", "ID": "x" * 12}])
    assert capsys.readouterr().out == "CREATED AT  ID\nnow         xxxxxxxxxxxx\n"
    print_rows("table {{.ID}}", [{"ID": "x"}], heading=False)
    assert capsys.readouterr().out == "x\n"
