# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's memory as drgn sees it: a dump, the layout of its structures, the addresses of its variables.

No debug info of the kernel is needed, no vmcoreinfo in the dump, and no option
of the kernel: the harness makes both itself. The guest's kernel is vmlinux
booted through PVH, so nothing has moved its text: KASLR is the work of the
decompressor that a bzImage begins with.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import drgn
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.llist import llist_for_each_entry
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.pid import for_each_task

from harness.postmortem.symbols import Symbols

# Lists in a kernel that broke may have no end.
MANY = 4096
_SYMBOLS_A_MODULE = 65536
_ELF64_SYM_BYTES = 24
# Canonical addresses of the kernel's half.
KERNEL_HALF = 0xFFFF_8000_0000_0000
# include/linux/sched.h
_TASK_UNINTERRUPTIBLE, _TASK_WAKEKILL, _TASK_NOLOAD = 0x2, 0x100, 0x400


@dataclass(frozen=True)
class Frame:
    """Where a task stands or returns to."""

    address: int
    called: bool
    text: str
    function: str
    module: str


class Core:
    """A dump of one kernel."""

    def __init__(
        self,
        dump: Path,
        known: Symbols,
        vmlinux: Path,
        types: Path,
        release: str,
        build_id: str,
        *,
        five_levels: bool = False,
    ) -> None:
        """known: the kernel's own symbols. types: guest-modules/types, compiled for this kernel.

        five_levels: whether its page tables have five levels (CR4.LA57) or four.
        """
        logging.getLogger("drgn").setLevel(logging.CRITICAL)
        self.symbols = known
        self.program = drgn.Program(vmcoreinfo=_vmcoreinfo(self.symbols, release, build_id, five_levels))
        self.program.set_core_dump(dump)
        module = self.program.extra_module("types", create=True)
        module.try_file(types, force=True)
        self._globals = self.program.type("struct harness_globals")
        self.program.register_object_finder("harness", self._find, enable_index=0)
        self._unwind_with(vmlinux)
        self.symbols = self.symbols.plus(self._module_symbols())
        self.tasks = list(itertools.islice(for_each_task(self.program), MANY))

    def _find(self, program: drgn.Program, name: str, *_: object) -> drgn.Object | None:
        try:
            kind = self._globals.member(name).type
            return drgn.Object(program, kind, address=self.symbols.addresses[name])
        except LookupError:
            return None

    def _unwind_with(self, vmlinux: Path) -> None:
        """Have drgn unwind by vmlinux's ORC or DWARF data; where there is none, drgn follows frame pointers."""
        for module, _ in self.program.loaded_modules():
            if isinstance(module, drgn.MainModule):
                module.loaded_file_status = drgn.ModuleFileStatus.WANT
                module.try_file(vmlinux)

    def _module_symbols(self) -> Iterator[tuple[int, str, str]]:
        """What the kernel's kallsyms knows about its modules; a module that is half gone has none."""
        for module in self.modules():
            try:
                name = module.name.string_().decode("ascii", "backslashreplace")
                kept = module.kallsyms.read_()
                count = min(kept.num_symtab.value_(), _SYMBOLS_A_MODULE)
                table = self.program.read(kept.symtab.value_(), count * _ELF64_SYM_BYTES)
                for index in range(1, count):
                    entry = table[index * _ELF64_SYM_BYTES : (index + 1) * _ELF64_SYM_BYTES]
                    address = int.from_bytes(entry[8:16], "little")
                    text = self.program.read_c_string(
                        kept.strtab.value_() + int.from_bytes(entry[:4], "little"), max_size=512
                    )
                    if address >= KERNEL_HALF and text:
                        yield address, text.decode("ascii", "backslashreplace"), name
            except (drgn.FaultError, AttributeError):
                continue

    def modules(self) -> Iterator[drgn.Object]:
        """Every struct module * that is loaded."""
        head = self.program["modules"].address_of_()
        yield from itertools.islice(list_for_each_entry("struct module", head, "list"), MANY)

    def running(self) -> Iterator[tuple[int, drgn.Object]]:
        """Each CPU that is online and the task on it."""
        for cpu in for_each_online_cpu(self.program):
            name = "pcpu_hot" if "pcpu_hot" in self.symbols.addresses else "current_task"
            yield cpu, per_cpu(self.program[name], cpu)

    def stack(self, task: drgn.Object) -> list[Frame]:
        """The task's kernel stack, innermost first; empty when drgn cannot tell."""
        try:
            trace = self.program.stack_trace(task)
        except (ValueError, LookupError, drgn.FaultError):
            return []
        frames = []
        hooked = self._hooked(task)
        for number, frame in enumerate(itertools.islice(trace, 128)):
            address = frame.pc
            if address == self.symbols.addresses.get("arch_rethook_trampoline"):
                address = next(hooked, address)
            if address < KERNEL_HALF:
                break
            frames.append(self._frame(address, called=number > 0 and not frame.interrupted))
        if caller := self._caller(trace):
            frames.insert(1, self._frame(caller, called=True))
        return frames

    def _frame(self, address: int, *, called: bool) -> Frame:
        found = self.symbols.find(address - called)
        text = self.symbols.name(address, called=called)
        return Frame(address, called, text, found[0].partition(".")[0] if found else "", found[3] if found else "")

    def _caller(self, trace: drgn.StackTrace) -> int:
        """The return address of a function that has just been entered, if its stack trace lacks it; otherwise 0.

        Until its second instruction is done (push %rbp, mov %rsp,%rbp) the frame pointer is that of its caller.
        """
        found = self.symbols.find(trace[0].pc) if len(trace) else None
        if found is None or found[1] > 1:
            return 0
        try:
            address = self.word(trace[0].register("rsp") + 8 * found[1])
        except (LookupError, ValueError, drgn.FaultError):
            return 0
        told = len(trace) > 1 and trace[1].pc == address
        return address if address >= KERNEL_HALF and not told and self.symbols.find(address - 1) else 0

    def _hooked(self, task: drgn.Object) -> Iterator[int]:
        """The return addresses of the functions on a task's stack that a kretprobe has hooked, innermost first.

        On the stack there is a trampoline in their place (kernel/trace/rethook.c).
        """
        if hasattr(task, "rethooks"):
            nodes = llist_for_each_entry("struct rethook_node", task.rethooks.first, "llist")
            with contextlib.suppress(drgn.FaultError):
                for node in itertools.islice(nodes, MANY):
                    yield node.ret_addr.value_()

    def word(self, address: int) -> int:
        """Eight bytes of memory."""
        return int(self.program.read_u64(address))


def title(task: drgn.Object) -> str:
    """A task by pid and name."""
    return f"pid {task.pid.value_()} {task.comm.string_().decode('ascii', 'backslashreplace')}"


def state(task: drgn.Object) -> int:
    """The bits of the task's state."""
    # Linux commit 2f064a59a11f ("sched: Change task_struct::state") (in v5.14) renamed it.
    member = "__state" if hasattr(task, "__state") else "state"
    return int(task.member_(member).value_())


def blocked(task: drgn.Object) -> bool:
    """Whether the task sleeps and no signal wakes it (D); the idle sleep of a kernel thread does not count."""
    bits = state(task)
    return bool(bits & _TASK_UNINTERRUPTIBLE) and not bits & _TASK_NOLOAD


def killable(task: drgn.Object) -> bool:
    """Whether a fatal signal ends the sleep of a blocked task."""
    return bool(state(task) & _TASK_WAKEKILL)


def _vmcoreinfo(table: Symbols, release: str, build_id: str, five_levels: bool) -> str:
    """What drgn must know to translate addresses, as the kernel's own note would tell it."""
    known = table.addresses
    return "\n".join(
        [
            f"OSRELEASE={release}",
            f"BUILD-ID={build_id}",
            "PAGESIZE=4096",
            f"SYMBOL(init_uts_ns)={known['init_uts_ns']:x}",
            f"SYMBOL(swapper_pg_dir)={known['init_top_pgt']:x}",
            f"SYMBOL(_stext)={known['_stext']:x}",
            "NUMBER(phys_base)=0",
            f"NUMBER(pgtable_l5_enabled)={five_levels:d}",
            "KERNELOFFSET=0",
            "",
        ]
    )
