"""The one door to a process: every tool that orca starts goes through `Runner`.

A `Command` is what is executed, logged, explained and written to scripts: one value, one list of
words. `sh` does the starting; it is imported when the first command runs, because a build that
comes wholly from the cache starts none.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orca.errors import Interrupted, ToolError, ToolMissing
from orca.events import Emit, ToolFinished, ToolStarted, ignore

STDERR_KEPT = 64 * 1024
CHUNK = 64 * 1024

_LOGRUS = re.compile(r'time="[^"]*" level=(?:fatal|error|warning) msg="((?:[^"\\]|\\.)*)"(?: .*)?')

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}

# What a tool may see of the caller's environment. Nothing else passes, so nothing else can change a build.
PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"),
    *("REGISTRY_AUTH_FILE", "CONTAINERS_REGISTRIES_CONF", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("XDG_DATA_HOME", "_CONTAINERS_ROOTLESS_UID", "GNUPGHOME"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"),
)


@dataclass(frozen=True)
class Command:
    """One call of a tool. `argv[0]` is looked up on PATH; `why` is a short reason for a learner.

    `env` is added to the passed part of the caller's environment.
    """

    argv: tuple[str, ...]
    why: str
    env: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """The command as one would type it."""
        import shlex

        return shlex.join(self.argv)


@dataclass(frozen=True)
class Finished:
    """How a command ended. `stdout` is empty when a callback or a pipe took it."""

    stdout: bytes
    stderr: str
    exit_code: int
    seconds: float


def environment(extra: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """The environment of a tool: the passed part of ours, in the C locale, and `extra`."""
    env = {name: os.environ[name] for name in PASSED if name in os.environ}
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {**env, "LC_ALL": "C.UTF-8", **dict(extra)}


def find(name: str) -> str:
    """The path of the tool `name`. Raises ToolMissing.

    An ordinary user's PATH often lacks the sbin directories, where some distributions keep runc.
    """
    import shutil

    places = [*os.environ.get("PATH", os.defpath).split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    # An empty place would be the current directory, which may be anybody's.
    found = shutil.which(name, path=":".join(filter(None, places)))
    if found is None:
        from orca.tools import probe

        raise ToolMissing(f"{name} is not installed (not found in PATH)", hint=probe.hint(name))
    return found


class _Word(str):
    """An argument as the bytes that it stands for: a path need not be UTF-8, and sh insists on it."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode(encoding, "surrogateescape")


class Process:
    """A running tool. Made by `Runner.start` only."""

    def __init__(self, runner: Runner, command: Command, step: int | None, call: int, running: Any) -> None:
        self.command = command
        self.call = call
        self.step = step
        self._runner = runner
        self._running = running
        self._begun = time.monotonic()
        self._ended: int | None = None
        self._retired = False
        self._waiting = threading.Lock()

    @property
    def pid(self) -> int:
        return int(self._running.pid)

    def wait(self) -> int:
        """Wait for the end and return the exit code, 128 + N for signal N."""
        with self._waiting:
            if self._ended is None:
                self._ended = self._wait()
        return self._ended

    def _wait(self) -> int:
        import sh

        try:
            self._running.wait()
            code = int(self._running.exit_code or 0)
        except sh.ErrorReturnCode as error:
            code = int(error.exit_code)
        code = code if code >= 0 else 128 - code
        self._runner.forget(self)
        self._runner.emit(ToolFinished(self.step, self.call, round(time.monotonic() - self._begun, 4), code))
        return code

    def kill(self) -> None:
        """End the tool and whatever it left in its process group."""
        if self._ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def retire(self) -> None:
        """Let the tool, which was told to end, do so while others go on; it is killed if it has not in two seconds."""
        self._retired = True

        def see_off() -> None:
            timer = threading.Timer(2, self.kill)
            timer.daemon = True
            timer.start()
            self.wait()
            timer.cancel()

        threading.Thread(target=see_off, name="retired", daemon=True).start()

    @property
    def retired(self) -> bool:
        return self._retired

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun


class Runner:
    """Starts tools, tells about each, and can end them all."""

    def __init__(self, emit: Emit = ignore) -> None:
        self._lock = threading.Lock()
        self._calls = itertools.count(1)
        self._processes: set[Process] = set()
        self._cancelled = False
        self.emit = emit

    def start(
        self,
        command: Command,
        *,
        step: int | None = None,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
        pass_fds: Sequence[int] = (),
        cwd: Path | None = None,
        join: Sequence[int] = (),
    ) -> Process:
        """Start `command` in its own session and return at once.

        A stream that is None is /dev/null. `join` are cgroup.procs files that the process
        goes into. The caller waits for or kills the process.
        Raises ToolMissing, ToolError when it cannot be executed, Interrupted after `cancel`.
        """
        import sh

        path = find(command.argv[0])
        with contextlib.ExitStack() as stack:
            null: IO[bytes] = stack.enter_context(open(os.devnull, "r+b", buffering=0))
            with self._lock:
                if self._cancelled:
                    raise Interrupted("interrupted")
                call = next(self._calls)
                for fd in pass_fds:
                    # sh closes every other descriptor in its children, so only this one inherits them.
                    os.set_inheritable(fd, True)
                self.emit(ToolStarted(step, call, command.argv, command.why))
                try:
                    # Streams are always files, which sh hands over as they are: it must make no terminal of its
                    # own, and for one that is a terminal it refuses to be told so.
                    running = sh.Command(path)(
                        [_Word(word) for word in command.argv[1:]],
                        _in=stdin or null, _out=stdout or null, _err=stderr or null,
                        _bg=True, _bg_exc=False, _return_cmd=True,
                        _new_session=True, _env=environment(command.env), _pass_fds=set(pass_fds),
                        _cwd=str(cwd) if cwd else None, _no_out=True, _no_err=True,
                        _preexec_fn=(lambda: _join(join)) if join else None,
                    )  # fmt: skip
                except (OSError, sh.ForkException) as error:
                    *_, why = str(error).strip().splitlines() or [""]  # of the traceback from the child
                    raise ToolError(f"cannot start {command.argv[0]}: {why.strip()}", argv=command.argv) from error
                process = Process(self, command, step, call, running)
                self._processes.add(process)
        return process

    @contextlib.contextmanager
    def running(self, command: Command, **streams: Any) -> Iterator[Process]:
        """`start`, and the certainty that the process has ended when the block is left."""
        process = None
        try:
            with signals_held():
                process = self.start(command, **streams)
            yield process
        finally:
            if process is not None and not process.retired:
                process.kill()
                process.wait()

    def run(
        self,
        command: Command,
        *,
        step: int | None = None,
        stdin: IO[bytes] | None = None,
        on_output: Callable[[bytes, str], None] | None = None,
        check: bool = True,
        limit: int = 256 * 1024 * 1024,
        **streams: Any,
    ) -> Finished:
        """Run `command` to its end.

        `on_output` gets chunks of bytes with "stdout" or "stderr" as they come; without it stdout is
        collected, at most `limit` bytes. With `check`, a code other than 0 raises ToolError.
        """
        collected: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

        def take(data: bytes, stream: str) -> None:
            if on_output is not None:
                on_output(data, stream)
            elif stream == "stdout":
                collected[stream] += data
                if len(collected[stream]) > limit:
                    raise ToolError(f"{command.argv[0]} printed more than {limit} bytes", argv=command.argv)
            if stream == "stderr":
                collected[stream] = (collected[stream] + data)[-STDERR_KEPT:]

        with contextlib.ExitStack() as stack:
            (out_r, out_w), (err_r, err_w) = (stack.enter_context(pipe()) for _ in range(2))
            process = stack.enter_context(
                self.running(command, step=step, stdin=stdin, stdout=out_w, stderr=err_w, **streams)
            )
            out_w.close()
            err_w.close()
            drain({out_r: "stdout", err_r: "stderr"}, take)
            code = process.wait()
        stderr = collected["stderr"].decode("utf-8", "replace")
        if check and code:
            raise failure(command, code, stderr)
        return Finished(bytes(collected["stdout"]), stderr, code, process.seconds)

    def pipeline(self, producer: Command, consumer: Command, *, step: int | None = None) -> Finished:
        """`producer | consumer`: both must end with 0. Returns how the consumer ended."""
        said = bytearray()
        with contextlib.ExitStack() as stack:
            read, write = stack.enter_context(pipe())
            err_r, err_w = stack.enter_context(pipe())
            first = stack.enter_context(self.running(producer, step=step, stdout=write, stderr=err_w))
            write.close()
            err_w.close()
            # Read all the time: a producer that complains a lot would else wait for us, and the consumer for it.
            listener = threading.Thread(target=_keep_end, args=(err_r, said), name="stderr", daemon=True)
            listener.start()
            stack.callback(listener.join)  # before its pipe is closed, for which the producer has to end
            stack.callback(first.kill)
            finished = self.run(consumer, step=step, stdin=read, check=False)
            read.close()  # so that a producer whose consumer is gone does not block
            if finished.exit_code:
                first.kill()
            code = first.wait()
            listener.join()
        # A consumer that fails first breaks the producer's pipe: its words are the cause.
        if finished.exit_code:
            raise failure(consumer, finished.exit_code, finished.stderr)
        if code:
            raise failure(producer, code, said.decode("utf-8", "replace"))
        return finished

    def check(self) -> None:
        """Raises Interrupted after `cancel`."""
        if self._cancelled:
            raise Interrupted("interrupted")

    def reap(self) -> None:
        """Take children that have ended and that this runner did not start: orphans, which a pid 1 inherits."""
        with self._lock, contextlib.suppress(ChildProcessError):
            mine = {process.pid for process in self._processes}
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if found.si_pid in mine:  # whoever waits for it takes it, and then the next is seen
                    return
                os.waitpid(found.si_pid, os.WNOHANG)

    def forget(self, process: Process) -> None:
        with self._lock:
            self._processes.discard(process)

    def cancel(self) -> None:
        """Kill everything that runs and let nothing start any more."""
        with self._lock:
            self._cancelled = True
            processes = list(self._processes)
        for process in processes:
            process.kill()


def _join(doors: Sequence[int]) -> None:
    """Go into cgroups; 0 is whoever writes it."""
    for door in doors:
        os.write(door, b"0")


@contextlib.contextmanager
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """An unbuffered pipe (read end, write end); both ends are closed on leaving."""
    r, w = os.pipe()
    with open(r, "rb", buffering=0) as read, open(w, "wb", buffering=0) as write:
        yield read, write


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Signals whose handlers raise (Ctrl-C) wait until the block ends: raised while a process is being started,
    they would leave one that nobody knows of. Only the main thread gets signals; for others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # What is ignored, or kills us at once, stays as it is: a handler in its place would be inherited as neither.
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in held:
        signal.signal(number, lambda received, _: came.append(received))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    for late in came:
        signal.raise_signal(late)


def drain(streams: dict[IO[bytes], str], take: Callable[[bytes, str], None]) -> None:
    """Read all `streams` to their ends, handing each chunk to `take` with its stream's name."""
    import selectors

    with selectors.DefaultSelector() as selector:
        for stream, name in streams.items():
            selector.register(stream, selectors.EVENT_READ, name)
        while selector.get_map():
            for key, _ in selector.select():
                data = _read(key.fd)
                if data:
                    take(data, key.data)
                else:
                    selector.unregister(key.fileobj)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except OSError as error:
        if error.errno == errno.EIO:  # how a terminal says that nobody has its other side any more
            return b""
        raise


@contextlib.contextmanager
def terminal(columns: int = 120) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A terminal as tools want one for their progress bars (our side, theirs). Raises OSError where there is none."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as read, open(theirs, "wb", buffering=0) as write:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 200, columns, 0, 0))
        yield read, write


def _keep_end(stream: IO[bytes], said: bytearray) -> None:
    """Read `stream` to its end and leave the last STDERR_KEPT bytes of it in `said`."""
    while data := stream.read(CHUNK):
        said += data
        del said[:-STDERR_KEPT]


def failure(command: Command, code: int, stderr: str) -> ToolError:
    """The error for a command that ended with `code`."""
    name = " ".join(word for word in command.argv[:2] if not word.startswith("-"))
    words = plain_words(stderr.strip())
    message, hint = f"{name} failed with exit code {code}", None
    if "no space left on device" in words:
        message = f"{name}: no space left on the device"
        hint = "orca prune frees what no image needs; ORCA_ROOT puts the store elsewhere"
    return ToolError(message, argv=command.argv, returncode=code, stderr=words, hint=hint)


def plain_words(stderr: str) -> str:
    """What Go tools say, without the frame that their logger puts around it: `time="…" level=fatal msg="…"`."""

    def message(line: str) -> str:
        match = _LOGRUS.fullmatch(line)
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), match[1]) if match else line

    return "\n".join(message(line) for line in stderr.splitlines())
