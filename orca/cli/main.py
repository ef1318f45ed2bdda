"""The command line's first word, and the only place where errors become text and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orca import __version__
from orca.errors import EXIT_INTERRUPTED, EXIT_ORCA, OrcaError, RunFailed, UsageError


@dataclass(frozen=True)
class Verb:
    """A command: the module that has its `run(arguments) -> exit code`, its group, and one line about it."""

    module: str
    group: str
    about: str


VERBS: dict[str, Verb] = {
    "build":      Verb("build",      "Build",   "build an image from a Dockerfile"),
    "bud":        Verb("build",      "",        "the same as build"),
    "cache":      Verb("cache",      "Build",   "list or delete the caches of RUN --mount=type=cache"),
    "why":        Verb("why",        "Build",   "say why a step was not cached: what changed since"),
    "builds":     Verb("builds",     "Build",   "list the records of builds"),
    "script":     Verb("script",     "Build",   "print a build as a shell script, with what each command is for"),
    "report":     Verb("report",     "Build",   "draw a build as one HTML page"),
    "from":       Verb("from_",      "Script",  "begin a scripted build; prints its id"),
    "step":       Verb("step",       "Script",  "carry out one Dockerfile instruction in it"),
    "commit":     Verb("commit",     "Script",  "make an image of it"),
    "steps":      Verb("steps",      "Script",  "list scripted builds, or the steps of one"),
    "undo":       Verb("undo",       "Script",  "take back its last steps"),
    "abandon":    Verb("abandon",    "Script",  "end scripted builds"),
    "shell":      Verb("shell",      "Script",  "a prompt that takes Dockerfile instructions"),
    "dockerfile": Verb("dockerfile", "Script",  "print one as a Dockerfile"),
    "images":     Verb("images",     "Images",  "list the images in the store"),
    "ls":         Verb("images",     "",        "the same as images"),
    "verify":     Verb("verify",     "Build",   "build an image again and explain each difference"),
    "context":    Verb("context",    "Build",   "list what a build context sends, and why"),
    "inspect":    Verb("inspect",    "Images",  "show an image's config and manifest"),
    "history":    Verb("history",    "Images",  "show which instruction made each layer"),
    "tag":        Verb("tag",        "Images",  "give an image another name"),
    "rm":         Verb("rm",         "Images",  "take names off images"),
    "rmi":        Verb("rm",         "",        "the same as rm"),
    "tree":       Verb("tree",       "Look",    "show the stages and steps that an image came from"),
    "files":      Verb("files",      "Look",    "list files of an image, without unpacking it"),
    "cat":        Verb("cat",        "Look",    "print a file of an image"),
    "diff":       Verb("diff",       "Look",    "compare the files of two images, or of two steps"),
    "blame":      Verb("blame",      "Look",    "say which instruction put a file there"),
    "du":         Verb("du",         "Images",  "show what takes how much, and what prune would free"),
    "prune":      Verb("prune",      "Images",  "delete what no image needs"),
    "manifest":   Verb("manifest",   "Share",   "make lists of images for several platforms"),
    "pull":       Verb("pull",       "Share",   "get an image from a registry"),
    "push":       Verb("push",       "Share",   "send an image to a registry"),
    "tags":       Verb("tags",       "Share",   "list the tags of a repository in a registry"),
    "search":     Verb("search",     "Share",   "list the repositories of a registry"),
    "login":      Verb("login",      "Share",   "keep credentials for a registry"),
    "logout":     Verb("logout",     "Share",   "forget the credentials for a registry"),
    "save":       Verb("save",       "Share",   "write images into an archive"),
    "load":       Verb("load",       "Share",   "read images from an archive"),
    "mount":      Verb("mount",      "Look",    "mount an image's files, for a command or (root) for a while"),
    "umount":     Verb("umount",     "Look",    "end such a mount"),
    "unpack":     Verb("unpack",     "Run",     "write an image's root file system into a directory"),
    "run":        Verb("run",        "Run",     "run a command in a container of an image"),
    "ps":         Verb("ps",         "Containers", "list containers"),
    "logs":       Verb("logs",       "Containers", "print what a detached container has printed"),
    "exec":       Verb("exec",       "Containers", "run a command in a running container"),
    "stop":       Verb("stop",       "Containers", "stop containers"),
    "start":      Verb("start",      "Containers", "start a container again"),
    "kill":       Verb("kill",       "Containers", "send a signal to containers"),
    "wait":       Verb("wait",       "Containers", "wait for the end of containers, and print their exit codes"),
    "container":  Verb("container",  "Containers", "delete or inspect containers: rm, prune, inspect"),
    "doctor":     Verb("doctor",     "System",  "check that everything orca needs is there and works"),
    "fsck":       Verb("fsck",       "System",  "check the store, and repair what can be made again"),
    "info":       Verb("info",       "System",  "show the store, the tools and the platform"),
    "completion": Verb("completion", "System",  "print a completion script for bash, zsh or fish"),
}  # fmt: skip


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code. Nothing of what fails shows a traceback."""
    os.umask(0o022)
    return guarded(_dispatch, arguments)


def guarded(work: Callable[[list[str]], int], arguments: Sequence[str]) -> int:
    """`work(arguments)`, with everything that it raises told and turned into an exit code."""
    try:
        return work(list(arguments))
    except KeyboardInterrupt:
        return _say(OrcaError("interrupted"), EXIT_INTERRUPTED)
    except OrcaError as error:
        return _say(error, error.exit_code)
    except BrokenPipeError:
        # The reader of our output is gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_ORCA
    except OSError as error:
        return _say(_os_error(error), EXIT_ORCA)
    except ModuleNotFoundError as error:
        return _say(_missing(error), EXIT_ORCA)
    except Exception as error:
        return _unexpected(error)


def _missing(error: ModuleNotFoundError) -> OrcaError:
    """A package that orca is made with is not there: a checkout without its .venv, mostly."""
    if error.name not in ("sh", "rich", "requests"):
        raise error
    hint = "in a checkout: make setup; elsewhere: pip install sh rich requests"
    return OrcaError(f"the Python package {error.name} is not installed", hint=hint)


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["help"] and len(arguments) > 1:
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(first_screen())
        return 0
    if arguments[0] in ("-V", "--version", "version"):
        sys.stdout.write(f"orca {__version__}\n")
        return 0
    verb = VERBS.get(arguments[0])
    if verb is None:
        raise unknown_verb(arguments[0])
    module = importlib.import_module(f"orca.cli.{verb.module}")
    return int(module.run(arguments[1:]))


def unknown_verb(word: str) -> UsageError:
    """The error for a first word that is no command."""
    import difflib

    if word.startswith("-"):
        return UsageError(
            f"no option {word} here", hint="the command comes first: orca build …; orca --help lists them"
        )
    near = difflib.get_close_matches(word, VERBS, 1)
    return UsageError(
        f"no command {word!r}", hint=f"did you mean orca {near[0]}?" if near else "orca --help lists them"
    )


def first_screen() -> str:
    """What `orca` alone shows."""
    lines = [
        "orca builds OCI images from Dockerfiles by calling skopeo, umoci and runc, and can show every call.",
        "",
        "  orca build -t app .            build ./Dockerfile; RUN has a network; works as root or not",
        "  orca build --explain -t app .  the same, showing and explaining each tool call",
        "  orca run app                   run it",
        "  orca push app REGISTRY/app     share it",
    ]
    for group in dict.fromkeys(verb.group for verb in VERBS.values() if verb.group):
        lines += ["", f"{group}:"]
        lines += [f"  {name:<11} {verb.about}" for name, verb in VERBS.items() if verb.group == group]
    lines += ["", "orca COMMAND --help explains a command with examples. orca doctor checks this machine.", ""]
    return "\n".join(lines)


def _os_error(error: OSError) -> OrcaError:
    from orca.store.files import explain

    return explain(error, "working")


def _say(error: OrcaError, code: int) -> int:
    from orca.ui import Terminal, render_error

    if isinstance(error, RunFailed) and error.told:
        return code
    terminal = Terminal(sys.stderr)
    terminal.line(render_error(error, color=terminal.color, width=terminal.width))
    return code


def _unexpected(error: Exception) -> int:
    """A mistake of orca's own: where, in one line; all of it in a file when ORCA_DEBUG asks."""
    import traceback

    if os.environ.get("ORCA_DEBUG"):
        traceback.print_exc()
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    message = f"this is a bug in orca: {type(error).__name__} at {where}: {error}"
    return _say(OrcaError(message, hint="ORCA_DEBUG=1 shows more; please report it"), EXIT_ORCA)
