# SPDX-License-Identifier: GPL-2.0-only
"""gdb on a guest: QEMU listens on a socket that only this user can reach, and the line to paste names the socket.

A repetition can be taken to any of its instructions from within gdb, by
commands of its own. QEMU's reverse execution is not used: 7.2 loads a snapshot
of this machine, and then waits for a timer that is not on the tape
(virtio_serial_load_device() starts one that expires at 1 ns).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.guest.machine import Machine
from harness.host import confinement

# gdb hands the request over and waits for the answer; then another QEMU listens on the socket.
_COMMANDS = """\
define goto
  disconnect
  shell echo "$arg0" > {folder}/asked; cat {folder}/told
  target remote {socket}
end
document goto
goto N: repeat the run up to its instruction N, forwards or back. Breakpoints stay.
end
define back
  disconnect
  shell echo "-$arg0" > {folder}/asked; cat {folder}/told
  target remote {socket}
end
document back
back N: repeat the run up to N instructions before this one. Breakpoints stay.
end
"""
# How long gdb may take from its request to the reading of the answer.
_ANSWER_LIMIT_S = 5.0
_ADDRESS = re.compile(r"0x[0-9a-f]{1,16}")


@dataclass(frozen=True)
class Desk:
    """Where gdb and the harness meet: a folder with pipes for what gdb asks of the harness, and QEMU's socket.

    The socket is in a folder that holds nothing else, as QEMU may write there.
    """

    folder: Path
    socket: Path

    def serve(self, machine: Machine) -> None:
        """Let gdb in, now or again; the guest stops when it comes."""
        machine.serve_gdb(self.socket)

    def line(self, kernel: Path, module: Path | None = None, text: str = "", *, moves: bool = False) -> str:
        """The command line to paste.

        text: where the guest's kernel put the module's code, as its sysfs says.
        moves: with `goto` and `back`.
        """
        words = ["gdb", "-q", "-iex", "set confirm off", str(kernel.resolve())]
        # What gdb takes for an address may be an expression that runs a command: $_shell() of gdb 13.
        if module is not None and _ADDRESS.fullmatch(text):
            words += ["-ex", f"add-symbol-file {module.resolve()} {text}"]
        if moves:
            words += ["-x", str(self.folder / "moves.gdb")]
        return shlex.join([*words, "-ex", f"target remote {self.socket}"])

    def asked(self, machine: Machine) -> str:
        """Wait for what gdb asks for: "N", or "-N" to go back; empty when the machine ended."""
        with os.fdopen(os.open(self.folder / "asked", os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0) as pipe:
            while machine.wait(0.2) is None:
                if said := pipe.read(64):
                    return said.decode("ascii", errors="replace").strip()
        return ""

    def tell(self, answer: str) -> None:
        """Answer a request, so that gdb goes on. An answer that gdb no longer waits for is dropped."""
        deadline = time.monotonic() + _ANSWER_LIMIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                pipe = os.open(self.folder / "told", os.O_WRONLY | os.O_NONBLOCK)
                with os.fdopen(pipe, "w", encoding="ascii", errors="backslashreplace") as stream:
                    stream.write(answer + "\n")
                return
            time.sleep(0.05)


@contextlib.contextmanager
def desk() -> Iterator[Desk]:
    """A desk that exists until the block ends."""
    # /tmp rather than $TMPDIR: a socket's path may have at most 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="harness-gdb-", dir="/tmp") as name,
        tempfile.TemporaryDirectory(prefix="harness-qemu-", dir="/tmp") as theirs,
    ):
        folder, socket = Path(name), Path(theirs, "gdb")
        confinement.give_folder(socket.parent)
        os.mkfifo(folder / "asked", 0o600)
        os.mkfifo(folder / "told", 0o600)
        (folder / "moves.gdb").write_text(_COMMANDS.format(folder=folder, socket=socket), encoding="ascii")
        yield Desk(folder, socket)
