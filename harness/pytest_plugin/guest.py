# SPDX-License-Identifier: GPL-2.0-only
"""A test's guest: what a test can do with it, whichever machine it is on at the moment."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin.faults import errors_as_text

if TYPE_CHECKING:
    from harness.guest.agent import GuestResult
    from harness.guest.machine import Machine
    from harness.model.ktap import Case
    from harness.model.shape import MachineShape
    from harness.run.session import Session
    from harness.run.watching import Watched

_KUNIT = "/sys/kernel/debug/kunit"


class CompilerWarning(UserWarning):
    """What the compiler said at W=1 about a module of the test's."""


@dataclass(frozen=True)
class Kernel:
    """The kernel under test. release: as uname -r tells it. config: its .config. accel: tcg or kvm."""

    release: str
    version: str
    build_id: str
    source: str
    patches: Sequence[str]
    vmlinux: Path
    config: Path
    accel: str

    def has(self, option: str) -> bool:
        """Whether an option such as KASAN is on."""
        from harness.kernel import kconfig

        values = kconfig.values(self.config.read_text(encoding="utf-8"))
        return values.get(option.removeprefix("CONFIG_"), "n") not in ("n", "0")


def kernel_of(session: Session) -> Kernel:
    """The facts of a session's kernel, which is built if it is not."""
    built, lab = session.lab.kernel, session.lab
    recipe = built.recipe
    return Kernel(
        built.release, built.version, built.build_id, recipe.source.spec, recipe.series.names, built.vmlinux,
        built.config, lab.choice.used,
    )  # fmt: skip


class Guest:
    """A guest that a test drives. Times are in seconds of an ordinary machine: a slower one gets more.

    A relative path of this machine is beside the test's file.

    Whatever is not here is the machine's (harness/guest/machine.py): `agent`, `monitor`, `console`, `shell`, ….
    """

    def __init__(self, request: pytest.FixtureRequest, session: Session, shape: MachineShape) -> None:
        self._request = request
        self._session = session
        self._shape = shape
        self._stack = ExitStack()
        # Each life of the guest, the present one last.
        self.lives: list[Watched] = []
        # The files of modules that were built for it, and of which reports may tell.
        self.built: list[Path] = []

    def begin(self, *, boots: bool = False) -> None:
        """Make the machine."""
        self.lives.append(self._stack.enter_context(self._session.watched(shape=self._shape, boots=boots)))

    def end(self) -> None:
        """End the machine; its kernel is judged."""
        self._stack.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.machine, name)

    @property
    def watched(self) -> Watched:
        """The present life."""
        return self.lives[-1]

    @property
    def machine(self) -> Machine:
        """The present machine."""
        return self.watched.machine

    @property
    def folder(self) -> Path:
        """Where the console and all else that is kept of the guest is."""
        return self.machine.console.log.parent

    def run(self, *argv: str, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = False) -> GuestResult:
        """Run a command, which has `status`, `text`, `stdout` and `stderr`. check: OSError for one that fails."""
        from harness.guest import carry

        done = self.machine.run(*argv, timeout_s=self._scaled(timeout_s), stdin=stdin)
        return carry.demand(done) if check else done

    def _here(self, path: str | Path) -> Path:
        """A path of this machine; a relative one is beside the test's file, wherever pytest was started."""
        return self._request.path.parent / path

    def put(self, source: str | Path, there: str = "/tmp/") -> str:  # noqa: S108 - of the guest
        """Copy a file of this machine into the guest; returns its path there. A name that ends with / is a folder."""
        from harness.guest import carry

        return carry.put(self.machine, self._here(source), there, self._scaled(30.0))

    def get(self, there: str, to: str | Path | None = None) -> bytes:
        """The content of a file of the guest, which is also written to `to` if that is given."""
        content = self.machine.agent.read_file(there, self._scaled(30.0))
        if to is not None:
            Path(to).write_bytes(content)
        return content

    def share(self, folder: str | Path, there: str = "/share") -> str:
        """Copy a folder of this machine, as it is now, to a place in the guest where it can only be read."""
        from harness.guest import carry

        carry.share(self.machine, self._here(folder), there, self._scaled(60.0))
        return there

    def insmod(self, module: str | Path, **parameters: object) -> None:
        """Load a module's file: a path of this machine, or of the guest when this one has no such file."""
        from harness.guest import carry

        words = [f"{name}={value}" for name, value in parameters.items()]
        if self._here(module).is_file():
            carry.load(self.machine, self._here(module), *words, timeout_s=self._scaled(30.0))
        else:
            self.run("insmod", str(module), *words, check=True)

    def modprobe(self, name: str, **parameters: object) -> None:
        """Load a module of the kernel's own, with those that it depends on."""
        loaded = self.machine.agent.read_file("/proc/modules").decode("ascii", "backslashreplace").splitlines()
        there = {line.split()[0] for line in loaded if line}
        *others, last = self._session.own_modules(name)
        for path in others:
            if path.stem.replace("-", "_") not in there:
                self.insmod(path)
        self.insmod(last, **parameters)

    def rmmod(self, name: str) -> None:
        """Unload a module."""
        self.run("rmmod", name, check=True)

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Ask QEMU's monitor; underscores in the names of arguments are dashes."""
        return self.machine.monitor.execute(command, **arguments)

    def dump(self) -> Path:
        """Write the guest's memory for drgn and crash(8); returns the file, which is kept with the recording."""
        from harness.postmortem import examine
        from harness.postmortem.kdump import DUMP

        examine.capture(self.machine, self._session.lab.kernel.release, self.folder)
        return self.folder / DUMP

    def reboot(self) -> None:
        """Power off and boot again. Nothing stays; the kernel is judged for the life that ends, at the test's end."""
        self.watched.judge()
        self._stack.close()
        self.begin(boots=True)

    def program(self, path: str | Path, *arguments: str, timeout_s: float = 60.0) -> GuestResult:
        """Run a static program of this machine in the guest. What it tells as TAP or KTAP are subtests of the test."""
        there = self.put(path)
        return self._tested(Path(path).name, self.run(there, *arguments, timeout_s=timeout_s))

    def kselftest(self, name: str, *arguments: str, timeout_s: float = 60.0) -> GuestResult:
        """Build and run a program of tools/testing/selftests, as in "mm:cow"; its results are subtests of the test."""
        from harness.model.errors import UsageError

        collection, colon, program = name.partition(":")
        if not colon or not _is_word(collection) or not _is_word(program):
            raise UsageError(f"{name!r} is not the name of a selftest", "write COLLECTION:PROGRAM, as in mm:cow")
        return self.program(self._session.selftest(collection, program), *arguments, timeout_s=timeout_s)

    def kunit(self, suite: str, timeout_s: float = 60.0) -> None:
        """What a KUnit suite came to, built in or of a module that is loaded; its cases are subtests of the test.

        Where the kernel can (6.8 and later), the suite is run again first.
        """
        from harness.model import ktap
        from harness.model.errors import UsageError
        from harness.model.strict_yaml import offer

        listed = self.run("ls", _KUNIT)
        if listed.status:
            pytest.skip("the kernel has no KUnit with debugfs: --kernel-config=kunit")
        if suite not in listed.text.split():
            raise UsageError(f"no KUnit suite {suite!r} in this kernel", offer(suite, listed.text.split()))
        if self.run("test", "-e", f"{_KUNIT}/{suite}/run").status == 0:
            self.run("sh", "-c", 'echo 1 > "$1"', "sh", f"{_KUNIT}/{suite}/run", timeout_s=timeout_s, check=True)
        told = self.get(f"{_KUNIT}/{suite}/results").decode("utf-8", "backslashreplace")
        self._subtests(suite, ktap.cases(told, 0))

    def _tested(self, name: str, done: GuestResult) -> GuestResult:
        from harness.model import ktap

        self._subtests(name, ktap.cases(done.text, done.status))
        return done

    def _subtests(self, name: str, cases: Sequence[Case]) -> None:
        """Each case as a subtest; where pytest has none (before 9), those that failed fail the test together."""
        from harness.report.text import plain

        try:
            subtests = self._request.getfixturevalue("subtests")
        except pytest.FixtureLookupError:
            wrong = [plain(f"{case.name}: {case.text}") for case in cases if case.verdict == "fail"]
            if wrong:
                pytest.fail("\n".join(wrong), pytrace=False)
            return
        for case in cases:
            with subtests.test(msg=plain(f"{name}: {case.name}")):
                if case.verdict == "fail":
                    pytest.fail(plain(case.text) or "not ok", pytrace=False)
                if case.verdict == "skip":
                    pytest.skip(plain(case.text))

    def load(self, folder: str | Path, **parameters: object) -> list[str]:
        """Build the modules of a folder of this machine and load them; returns their names. For `module`."""
        from harness.model.errors import UsageError
        from harness.report.text import plain

        made = self._session.build_modules(self._here(folder))
        if made.warnings:
            warnings.warn(CompilerWarning(plain("\n".join([f"module {folder}:", *made.warnings]))), stacklevel=2)
        if parameters and len(made.modules) > 1:
            raise UsageError(
                f"{folder}: makes {len(made.modules)} modules, and parameters are for one",
                "guest.insmod(path, name=value)",
            )
        for path in made.modules:
            self.built.append(path)
            self.insmod(path, **parameters)
        return [path.stem for path in made.modules]

    def _scaled(self, seconds: float) -> float:
        from harness.host.clock import scaled

        return scaled(seconds, self.watched.slowdown)


def _is_word(text: str) -> bool:
    """Whether a text can be the name of a folder or a program of the kernel's selftests."""
    return text.replace("-", "_").replace(".", "_").isidentifier() and not text.startswith(".")


def fixture_of_guest(guest: object) -> Guest:
    """The guest of the harness that another fixture builds upon."""
    with errors_as_text():
        if not isinstance(guest, Guest):
            from harness.model.errors import UsageError

            raise UsageError("this fixture needs the fixture `guest` of the harness, and the project has its own")
    return guest
