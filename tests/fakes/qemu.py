# SPDX-License-Identifier: GPL-2.0-only
"""A QEMU that plays a part and dies on cue. The name it is called by is the part; it speaks the channels it inherits.

refuses   complains and exits 1            panics    prints a panic and exits 0
resets    exits 0 without a word           silent    does nothing for ever
answers   a guest that answers PING        murdered  HELLO, then SIGKILL to itself
hostile   sends what is no frame         stalls    PID 1 and QMP answer; no program in it does
crashes   SIGSEGV to itself              recovers  the same three times, answers the fourth
full      at the first question there is no room for the guest's disk; QEMU stops the guest
ailing    the same, and the disk is broken         cramped   full before HELLO
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

HEAD = struct.Struct("<IIII")
MAGIC = 0x4E484147
READ, WRITE = 4, 5
# The event log that a file is taken for: its header is that of harness/model/event.py.
NO_EVENTS = struct.pack("<IIIIQQQ", 0x474C484E, 3, 112, 0, 0, 0, 0)


def channel(name: str) -> socket.socket:
    """The descriptor that the command line gives a chardev."""
    found = next(word for word in sys.argv if word.startswith(f"socket,id={name},"))
    number = re.search(r"fd=(\d+)", found)
    assert number is not None
    return socket.socket(fileno=int(number[1]))


def greet(monitor: socket.socket) -> None:
    """QMP's greeting, and an answer to qmp_capabilities."""
    monitor.sendall(
        json.dumps({"QMP": {"version": {"qemu": {}, "package": ""}, "capabilities": []}}).encode() + b"\r\n"
    )
    request = json.loads(monitor.recv(4096))
    monitor.sendall(json.dumps({"return": {}, "id": request.get("id")}).encode() + b"\r\n")


def obey(monitor: socket.socket) -> None:
    """Answer QMP commands, which come one at a time and without newlines, until "quit"."""
    while said := monitor.recv(4096):
        request = json.loads(said)
        if request["execute"] == "quit":
            return
        answer = {"return": {"status": "running"}, "id": request.get("id")}
        monitor.sendall(json.dumps(answer).encode() + b"\r\n")


def stop(monitor: socket.socket, nospace: bool) -> None:
    """The event of a QEMU that stopped its guest, because the host's disk did not take what the guest wrote."""
    data = {"device": "", "node-name": "swap", "operation": "write", "action": "stop", "nospace": nospace}
    event = {"event": "BLOCK_IO_ERROR", "data": {**data, "reason": "it smokes"}}
    monitor.sendall(json.dumps({**event, "timestamp": {"seconds": 0, "microseconds": 0}}).encode() + b"\r\n")


def frame(number: int, kind: int, payload: bytes) -> bytes:
    return HEAD.pack(MAGIC, number, kind, len(payload)) + payload


class Console:
    """The serial line of v7.3: a thread prints what is logged, a while later, if its level still counts."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._logged: queue.Queue[bytes] = queue.Queue()
        self._quiet = False
        threading.Thread(target=self._print, daemon=True).start()

    def written(self, path: str, content: bytes) -> None:
        """A file that has to do with the log was written."""
        if path == "/proc/sys/kernel/printk":
            self._quiet = content == b"1\n"
        elif path == "/dev/kmsg":
            self._logged.put(content.partition(b">")[2].strip())
        elif path == "/proc/sysrq-trigger":
            self._logged.put(b"sysrq: " + content)
        elif path.endswith("/quench"):
            self._logged.put(b"the last that was logged")

    def _print(self) -> None:
        while True:
            text = self._logged.get()
            time.sleep(0.1)
            if not self._quiet:
                self._line.sendall(b"[    1.000000] " + text + b"\r\n")


def answer(agent: socket.socket, console: Console | None = None) -> None:
    """HELLO, a heartbeat, then DONE to whatever comes."""
    agent.sendall(frame(0, 16, b"abi=2\nrelease=6.6.6\nmodules=ok\nswap=ok\n") + frame(0, 22, struct.pack("<Q", 5)))
    with agent.makefile("rb") as stream:
        while head := stream.read(HEAD.size):
            _, number, kind, size = HEAD.unpack(head)
            payload = stream.read(size)
            if kind == WRITE and console is not None:
                path, _, content = payload.partition(b"\0")
                console.written(path.decode(), content)
            if kind == READ:
                agent.sendall(frame(number, 20, NO_EVENTS))
            agent.sendall(frame(number, 21, struct.pack("<i", 0)))


def suffer(part: str, agent: socket.socket, monitor: socket.socket) -> None:
    """The parts in which the host does something to QEMU."""
    if part != "cramped":
        agent.sendall(frame(0, 16, b"abi=2\nrelease=6.6.6\n"))
        # The harness says something once it took HELLO.
        agent.recv(1)
    if part == "murdered":
        os.kill(os.getpid(), signal.SIGKILL)
    stop(monitor, part != "ailing")
    signal.pause()


def main() -> None:
    part = Path(sys.argv[0]).name
    if part == "refuses":
        sys.stderr.write("qemu: -machine imaginary: unsupported machine type\n")
        sys.exit(1)
    console, agent, monitor = channel("console"), channel("agent"), channel("monitor")
    greet(monitor)
    # In most parts the next command is "quit".
    wait = obey if part == "stalls" else lambda channel: channel.recv(1)
    threading.Thread(target=lambda: (wait(monitor), os._exit(0)), daemon=True).start()
    match part:
        case "panics":
            console.sendall(
                b"[    0.1] Kernel panic - not syncing: VFS: Unable to mount \x1b]0;root\x07\r\nCall Trace:\r\n"
            )
        case "silent":
            console.sendall(b"[    0.1] Oops: 0000 [#1] SMP\r\n")
            signal.pause()
        case "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hostile":
            agent.sendall(b"A" * 64)
            signal.pause()
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "recovers":
            with Path(sys.argv[0]).with_name("crashes").open("ab", buffering=0) as crashes:
                if crashes.write(b".") and crashes.tell() < 4:
                    os.kill(os.getpid(), signal.SIGSEGV)
            answer(agent)
        case "answers":
            answer(agent)
        case "stalls":
            answer(agent, Console(console))
            signal.pause()
        case "murdered" | "full" | "ailing" | "cramped":
            suffer(part, agent, monitor)


if __name__ == "__main__":
    main()
