"""orca completion: scripts that complete orca's command line in bash, zsh and fish.

What they offer is taken from the parsers of the commands, so a new option is in the next script.
Names of images and stages are asked for when they are needed.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca.cli.options import Parser
from orca.errors import OrcaError, UsageError

EXAMPLES = """\
  eval "$(orca completion bash)"                               in ~/.bashrc
  eval "$(orca completion zsh)"                                in ~/.zshrc, after compinit
  orca completion fish > ~/.config/fish/completions/orca.fish  once, and after an update"""

# What the value of an option or a positional argument is, by its metavar; anything else is not completed.
_KINDS = {
    "FILE": "file",
    "CONTEXT": "directory",
    "DIRECTORY": "directory",
    "IMAGE": "image",
    "IMAGE|BUILD": "image",
    "PATTERN": "image",
    "STAGE": "stage",
    "CONTAINER": "container",
    "COMMAND": "file",
}
# Exceptions, by verb and name: names that shall be given are completed from those that are there.
_SPECIAL = {
    ("build", "tag"): "image",
    ("tag", "names"): "image",
    ("run", "workdir"): "none",
    **dict.fromkeys([(verb, "id") for verb in ("step", "commit", "steps", "undo", "dockerfile")], "session"),
    ("abandon", "ids"): "session",
}


@dataclass(frozen=True)
class Value:
    """An argument: its kind ("file", "directory", "image", "stage", "session", "container", "words", "none"),
    its words, its metavar."""

    kind: str
    label: str
    words: tuple[str, ...] = ()
    optional: bool = False
    many: bool = False


@dataclass(frozen=True)
class Option:
    """An option under all its names; `value` is None for a flag."""

    names: tuple[str, ...]
    about: str
    value: Value | None
    again: bool


@dataclass(frozen=True)
class Command:
    """A verb: what `orca VERB` takes. `rest`: what follows the first argument is somebody else's."""

    name: str
    about: str
    options: tuple[Option, ...]
    arguments: tuple[Value, ...]
    rest: bool


def make_parser() -> Parser:
    """The options of `orca completion`."""
    parser = Parser("completion", "Print a script that completes orca's commands.", EXAMPLES)
    parser.add_argument("shell", nargs="?", choices=sorted(SHELLS), help="the shell that shall complete")
    # What the scripts call: fast, and silent whatever is wrong.
    parser.add_argument("--names", nargs="?", const="", help=argparse.SUPPRESS)
    parser.add_argument("--sessions", nargs="?", const="", help=argparse.SUPPRESS)
    parser.add_argument("--containers", nargs="?", const="", help=argparse.SUPPRESS)
    parser.add_argument("--stages", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print a script, or words for one."""
    given = make_parser().parse(arguments)
    if given.names is not None:
        return _print(image_names(given.names))
    if given.sessions is not None:
        return _print(session_names(given.sessions))
    if given.containers is not None:
        return _print(container_names(given.containers))
    if given.stages is not None:
        return _print(stage_names(given.stages))
    if given.shell is None:
        raise UsageError("which shell?", hint="orca completion bash, zsh or fish")
    sys.stdout.write(SHELLS[given.shell](commands()))
    return 0


def _print(words: Sequence[str]) -> int:
    sys.stdout.write("".join(f"{word}\n" for word in words))
    return 0


# -- words that are asked for


def image_names(prefix: str) -> list[str]:
    """Names of images in the store: short ones for what was built here, full ones once `localhost` is typed."""
    from orca.oci import reference
    from orca.store.store import Store, default_root

    try:
        names = sorted(Store(default_root()).tags())
    except OrcaError:
        return []
    found = []
    for name in names:
        short = name.removeprefix("localhost/").removesuffix(":latest")
        if prefix.startswith("localhost") or ":" in prefix:
            short = name if prefix.startswith("localhost") else name.removeprefix("localhost/")
        try:
            reference.parse(short)  # a name that is none could do harm in a shell
        except UsageError:
            continue
        found.append(short)
    return [name for name in dict.fromkeys(found) if name.startswith(prefix)]


def session_names(prefix: str) -> list[str]:
    """The ids of scripted builds."""
    from orca.store import sessions
    from orca.store.store import Store, default_root

    return [name for name in sessions.names(Store(default_root())) if name.startswith(prefix)]


def container_names(prefix: str) -> list[str]:
    """The names of containers, and once something is typed their ids."""
    from orca.store import containers
    from orca.store.store import Store, default_root

    try:
        found = [entry.config for entry in containers.listing(Store(default_root()))]
    except OrcaError:
        return []
    words = [each.name for each in found] + [each.id for each in found if prefix]
    return [word for word in words if word.startswith(prefix) and re.fullmatch(r"[\w.-]+", word)]


def stage_names(words: Sequence[str]) -> list[str]:
    """The stages of the Dockerfile that a command line (the words behind `orca build`) would build."""
    from orca.dockerfile import parser
    from orca.dockerfile.instructions import From

    place = dockerfile_of(words)
    try:
        found = parser.parse(place.read_bytes()[: 1 << 20], place.name).instructions
    except (OSError, OrcaError):
        return []
    names = [item.stage for item in found if isinstance(item, From) and item.stage]
    return [name for name in names if re.fullmatch(r"[\w.-]+", name)]


def dockerfile_of(words: Sequence[str]) -> Path:
    """The Dockerfile that unfinished words mean: -f's, else the one in the last word that is a directory."""
    context = Path(".")
    for before, word in zip(("", *words), words, strict=False):
        if before in ("-f", "--file"):
            return Path(word)
        if word.startswith("--file="):
            return Path(word.removeprefix("--file="))
        if not word.startswith("-") and word and Path(word).is_dir():
            context = Path(word)
    names = (context / name for name in ("Dockerfile", "dockerfile", "Containerfile"))
    return next((path for path in names if path.is_file()), context / "Dockerfile")


# -- what the parsers know


def commands() -> list[Command]:
    """Every verb."""
    from orca.cli.main import VERBS

    return [command(name, verb.module, verb.about) for name, verb in VERBS.items()]


def command(name: str, module: str, about: str) -> Command:
    """One verb, from the parser of its module."""
    parser = importlib.import_module(f"orca.cli.{module}").make_parser()
    options, arguments, rest = [], [], False
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        if not action.option_strings:
            arguments.append(value_of(module, action))
            rest = rest or action.nargs == argparse.REMAINDER
            continue
        value = None if action.nargs == 0 else value_of(module, action)
        again = isinstance(action, argparse._AppendAction)
        options.append(Option(tuple(action.option_strings), _sentence(action.help), value, again))
    return Command(name, about, tuple(options), tuple(arguments), rest)


def value_of(module: str, action: argparse.Action) -> Value:
    """What an argument of a parser is."""
    label = action.metavar if isinstance(action.metavar, str) else action.dest
    kind = _SPECIAL.get((module, action.dest)) or _KINDS.get(label, "none")
    words = tuple(map(str, action.choices or ()))
    many = action.nargs in ("*", "+", argparse.REMAINDER)
    return Value("words" if words else kind, label, words, action.nargs == "?", many)


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


# -- bash


def bash(found: Sequence[Command]) -> str:
    """A script for bash, with or without the package bash-completion."""
    cases = "\n".join(line for item in found for line in _bash_cases(item))
    verbs = " ".join([*(item.name for item in found), "--help", "--version"])
    return BASH.replace("@CASES@", cases).replace("@VERBS@", verbs)


def _bash_cases(item: Command) -> Iterator[str]:
    for option in item.options:
        if option.value is not None and not option.value.optional:
            pattern = "|".join(f"'{item.name} {name}'" for name in option.names)
            yield f"    {pattern}) echo {_bash_value(option.value)} ;;"
        elif option.value is not None:
            # An optional value is written behind = only.
            pattern = "|".join(f"'{item.name} {name}='" for name in option.names)
            yield f"    {pattern}) echo {_bash_value(option.value)} ;;"
    names = " ".join(name for option in item.options for name in option.names)
    yield f"    '{item.name} -') echo words {names} ;;"
    for number, value in enumerate(item.arguments):
        place = f"'{item.name} @'*" if value.many else f"'{item.name} @{number}'"
        yield f"    {place}) echo {_bash_value(value)} ;;"
    if item.rest:
        yield f"    '{item.name} rest') echo yes ;;"


def _bash_value(value: Value) -> str:
    return " ".join([value.kind, *value.words])


BASH = r"""# Completes orca in bash: eval "$(orca completion bash)"

# What may stand somewhere: behind an option ("build -f"), behind its = ("build --pull="), as an option
# ("build -"), as an argument ("build @0").
_orca_kind() {
    case "$1 $2" in
@CASES@
    esac
}

# The words of one kind that begin with the value $3: one a line. $1 is orca itself.
_orca_offer() {
    local orca=$1 value=$3 word
    set -f
    local kind=($2)
    set +f
    case ${kind[0]} in
        words) for word in "${kind[@]:1}"; do [[ $word == "$value"* ]] && printf '%s\n' "$word"; done ;;
        file) compgen -f -- "$value" ;;
        directory) compgen -d -- "$value" ;;
        image) command "$orca" completion --names "$value" 2>/dev/null ;;
        session) command "$orca" completion --sessions "$value" 2>/dev/null ;;
        container) command "$orca" completion --containers "$value" 2>/dev/null ;;
        stage)
            while IFS= read -r word; do
                [[ $word == "$value"* ]] && printf '%s\n' "$word"
            done < <(command "$orca" completion --stages "${words[@]:2}" 2>/dev/null) ;;
    esac
}

_orca() {
    # bash breaks words at = and : too; the line itself tells the real ones.
    local line=${COMP_LINE:0:COMP_POINT} words=() word verb kind value prefix='' place=0 i
    [[ -n $line ]] || line="${COMP_WORDS[*]:0:COMP_CWORD+1}"
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local last=$((${#words[@]} - 1)) orca=${1:-orca}
    value=${words[last]} verb=${words[1]}
    COMPREPLY=()
    if ((last <= 1)); then
        kind="words @VERBS@"
    else
        for ((i = 2; i < last; i++)); do
            word=${words[i]}
            if [[ $word != -* || $word == - ]]; then
                ((place += 1))
                [[ -n $(_orca_kind "$verb" rest) ]] && ((place = 1)) && break
            elif [[ $word != *=* && -n $(_orca_kind "$verb" "$word") ]]; then
                ((i += 1))
            fi
        done
        kind=$(_orca_kind "$verb" "@$place")
        if ((i > last)); then
            kind=$(_orca_kind "$verb" "${words[last - 1]}")
        elif [[ $value == --*=* ]]; then
            prefix=${value%%=*}= value=${value#*=}
            kind=$(_orca_kind "$verb" "${prefix%=}")
            [[ -n $kind ]] || kind=$(_orca_kind "$verb" "$prefix")
        elif [[ $value == -* ]] && ! ((place && ${#kind} && i < last)); then
            kind=$(_orca_kind "$verb" -)
        fi
    fi
    [[ $kind == file || $kind == directory ]] && compopt -o filenames 2>/dev/null
    # What stands before the last = or : of the word is there already, unless bash was told not to break there.
    local there='' whole=$prefix$value
    [[ $COMP_WORDBREAKS == *:* && $whole == *:* ]] && there=${whole%"${whole##*:}"}
    [[ $COMP_WORDBREAKS == *=* && $whole == *=* && -z $there ]] && there=${whole%"${whole##*=}"}
    while IFS= read -r word; do
        word=$prefix$word
        COMPREPLY+=("${word#"$there"}")
    done < <(_orca_offer "$orca" "$kind" "$value")
}
complete -F _orca orca
"""


# -- zsh


def zsh(found: Sequence[Command]) -> str:
    """A script for zsh: to be evaluated, or to be a file _orca in fpath."""
    verbs = "\n".join(f"        {_quote(item.name + ':' + item.about)}" for item in found)
    return ZSH.replace("@VERBS@", verbs).replace("@CASES@", "\n".join(map(_zsh_case, found)))


def _zsh_case(item: Command) -> str:
    specs = [_quote(spec) for option in item.options for spec in _zsh_option(option)]
    for number, value in enumerate(item.arguments, 1):
        place = f"{number}::" if value.optional else f"{number}:"
        if value.many:
            place = "*::" if item.rest else "*:"
        specs.append(_quote(place + _zsh_value(value)))
    lines = " \\\n".join(f"            {spec}" for spec in specs)
    # What follows an image are the options of somebody else.
    stop = " -A '-*'" if item.rest else ""
    return f"    {item.name})\n        _arguments -s{stop} : \\\n{lines} ;;"


def _zsh_option(option: Option) -> Iterator[str]:
    for name in option.names:
        first = "*" if option.again else f"({' '.join(option.names)})"
        about = re.sub(r"([\[\]\\])", r"\\\1", option.about)
        if option.value is None:
            yield f"{first}{name}[{about}]"
        elif option.value.optional:
            yield f"{first}{name}=-[{about}]::{_zsh_value(option.value)}"
        else:
            equals = "=" if name.startswith("--") else "+"
            yield f"{first}{name}{equals}[{about}]:{_zsh_value(option.value)}"


def _zsh_value(value: Value) -> str:
    actions = {
        "file": "_files",
        "directory": "_files -/",
        "image": "_orca_images",
        "session": "_orca_sessions",
        "container": "_orca_containers",
        "stage": "_orca_stages",
        "words": f"({' '.join(value.words)})",
        "none": " ",
    }
    return value.label.replace(":", r"\:") + ":" + actions[value.kind]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


ZSH = r"""#compdef orca
# Completes orca in zsh: eval "$(orca completion zsh)", or this file as _orca in a directory of fpath.

_orca_images() {
    local -a names
    names=(${(f)"$(_call_program names orca completion --names ${(q)PREFIX} 2>/dev/null)"})
    compadd -a names
}

_orca_sessions() {
    local -a names
    names=(${(f)"$(_call_program names orca completion --sessions ${(q)PREFIX} 2>/dev/null)"})
    compadd -a names
}

_orca_containers() {
    local -a names
    names=(${(f)"$(_call_program names orca completion --containers ${(q)PREFIX} 2>/dev/null)"})
    compadd -a names
}

_orca_stages() {
    local -a names
    names=(${(f)"$(orca completion --stages ${words[2,-1]} 2>/dev/null)"})
    compadd -a names
}

_orca() {
    local curcontext=$curcontext verb
    if (( CURRENT == 2 )); then
        local -a verbs
        verbs=(
@VERBS@
        )
        _describe command verbs
        return
    fi
    verb=$words[2]
    shift words
    (( CURRENT -= 1 ))
    case $verb in
@CASES@
    esac
}

if [[ $funcstack[1] == _orca ]]; then
    _orca "$@"
else
    compdef _orca orca
fi
"""


# -- fish


def fish(found: Sequence[Command]) -> str:
    """A script for fish."""
    lines = ["# Completes orca in fish: a file orca.fish in ~/.config/fish/completions", "complete -c orca -f"]
    for item in found:
        lines.append(f"complete -c orca -n __fish_use_subcommand -a {item.name} -d {_fish(item.about)}")
    for item in found:
        when = f"complete -c orca -n '__fish_seen_subcommand_from {item.name}'"
        lines += [f"{when} {_fish_option(option)}" for option in item.options]
        lines += [f"{when} {_fish_value(value)}" for value in item.arguments if value.kind != "none"]
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    value = option.value
    if value is None:
        how = ""
    elif value.optional:
        how = f" -a {_fish(' '.join(value.words))}"
    else:
        how = f" -r {_fish_value(value)}"
    return f"{names}{how} -d {_fish(option.about)}"


def _fish_value(value: Value) -> str:
    return {
        "file": "-F",
        "directory": "-f -a '(__fish_complete_directories (commandline -ct))'",
        "image": "-f -a '(orca completion --names (commandline -ct))'",
        "session": "-f -a '(orca completion --sessions (commandline -ct))'",
        "container": "-f -a '(orca completion --containers (commandline -ct))'",
        "stage": "-f -a '(orca completion --stages (commandline -opc)[3..-1])'",
        "words": f"-f -a {_fish(' '.join(value.words))}",
        "none": "-f",
    }[value.kind]


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[Sequence[Command]], str]] = {"bash": bash, "fish": fish, "zsh": zsh}
