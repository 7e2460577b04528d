# SPDX-License-Identifier: GPL-2.0-only
"""The CPU refused, or the kernel gave up: faults, BUG(), panics.

Formats: arch/x86/mm/fault.c, arch/x86/kernel/{traps,dumpstack}.c, arch/arm/kernel/traps.c,
arch/arm/mm/{fault,alignment}.c,
arch/arm64/mm/fault.c, arch/arm64/kernel/traps.c, arch/riscv/mm/fault.c, arch/powerpc/{mm/fault,kernel/traps}.c,
arch/s390/{mm/fault,kernel/dumpstack}.c, arch/mips/mm/fault.c, lib/bug.c, kernel/panic.c, kernel/exit.c.
"""

from __future__ import annotations

from harness.console.pattern import Frame, Pattern, Role

# "CPU 1 " stands before it on mips, "8<--- cut here ---" in the line above on arm.
_UNABLE = r"(?:CPU \d+ )?(?:BUG: )?[Uu]nable to handle (?:kernel )?"

PATTERNS = (
    Pattern(
        name="null-dereference",
        type="NULL-POINTER-DEREFERENCE",
        needles=(
            "nable to handle ",
            "BUG",
        ),
        regex=(
            rf"(?:{_UNABLE}NULL pointer dereference|BUG: [Kk]ernel NULL pointer dereference)(?:,? at |, address|,? "
            rf"on |$)"
        ),
        title="BUG: unable to handle kernel NULL pointer dereference in {frame}",
        sample="BUG: kernel NULL pointer dereference, address: 0000000000000018",
        near_miss="test: no NULL pointer dereference",
    ),
    Pattern(
        name="bad-address",
        type="MEMORY_SAFETY_BUG",
        needles=("nable to handle ",),
        regex=(
            rf"{_UNABLE}(?:paging request|page fault|execut\w{{1,8}}.{{1,32}}|write to read-only memory|"
            r"read from unreadable memory|data access(?: on (?:read|write))?|instruction fetch|"
            r"(?:pointer dereference|paging request) in virtual (?:kernel|user) address space|"
            r"unaligned access|unknown.{1,24})(?:,? at | for | \(|$)"
        ),
        title="BUG: unable to handle kernel paging request in {frame}",
        sample="BUG: unable to handle page fault for address: ffffc90000a1b000",
        near_miss="usb: unable to handle the load",
    ),
    Pattern(
        name="user-access",
        type="MEMORY_SAFETY_BUG",
        needles=("nable to handle ",),
        regex=rf"{_UNABLE}access to user memory(?: (?:outside|without) uaccess routines)?(?:,? at |$)",
        title="BUG: unable to handle kernel access to user memory in {frame}",
        sample="Unable to handle kernel access to user memory outside uaccess routines at virtual address 20000040",
        near_miss="Unable to handle kernel paging request at virtual address 0000000020000040",
    ),
    Pattern(
        # The rest of the line came in a second printk(), with somebody else's in between.
        name="bad-address-torn",
        type="MEMORY_SAFETY_BUG",
        needles=("nable to handle ",),
        regex=r"BUG: [Uu]nable to handle kernel\s*$",
        title="BUG: unable to handle kernel",
        frame=Frame.NONE,
        sample="BUG: unable to handle kernel",
        near_miss="BUG: unable to handle kernel paging request at 00000000ffffff8a",
    ),
    Pattern(
        name="general-protection",
        type="DoS",
        needles=("general protection fault",),
        regex=(
            r"(?:Oops: )?(?:segment-related )?general protection fault(?:,? [a-zA-Z][^:\[\n]{1,80})?: "
            r"[0-9a-f]{4} "
        ),
        title="general protection fault in {frame}",
        sample=(
            "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000003: 0000 [#1] SMP KASAN"
        ),
        near_miss="traps: drive[123] general protection fault ip:401020 sp:7ffc error:0 in drive[400000+1000]",
    ),
    Pattern(
        name="trap",
        type="DoS",
        needles=("[#",),
        regex=(
            r"(?:Oops: )?(?:divide_error|(?P<what>divide error|overflow|bounds|invalid TSS|alignment check|"
            r"segment not present|coprocessor segment overrun|coprocessor error|SIMD exception|int3|debug|"
            r"control protection|"
            r"double fault|kernel stack overflow \([a-z -]{1,24}\)|unknown NMI error|virtualization exception)): "
            r"[0-9a-f]{4} \[#\d+\]"
        ),
        title="{what} in {frame}",
        role=Role.FOLLOWS,
        missing={"what": "divide error"},
        sample="divide error: 0000 [#1] PREEMPT SMP",
        near_miss="traps: drive[123] trap divide error ip:401020 [#1]",
    ),
    Pattern(
        name="stack-segment",
        type="DoS",
        needles=("[#",),
        regex=r"(?:Oops: )?stack segment: [0-9a-f]{4} \[#\d+\]",
        title="stack segment fault in {frame}",
        sample="stack segment: 0000 [#1] PREEMPT SMP",
        near_miss="traps: drive[123] trap stack segment ip:401020 [#1]",
    ),
    Pattern(
        name="invalid-opcode",
        type="DoS",
        needles=("[#",),
        regex=r"(?:Oops: )?invalid opcode: [0-9a-f]{4} \[#\d+\]",
        title="invalid opcode in {frame}",
        role=Role.FOLLOWS,
        sample="Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
        near_miss="traps: drive[123] trap invalid opcode: ip:401020",
    ),
    Pattern(
        name="bug-list",
        type="MEMORY_SAFETY_BUG",
        needles=("BUG",),
        regex=r"[kK]ernel BUG at (?P<site>lib/list_debug\.c:\d+)!",
        title="BUG: corrupted list in {frame}",
        sample="kernel BUG at lib/list_debug.c:47!",
        near_miss="kernel BUG at mm/rmap.c:1233!",
    ),
    Pattern(
        name="bug-usercopy",
        type="BUG",
        needles=("BUG",),
        regex=r"[kK]ernel BUG at (?P<site>mm/usercopy\.c:\d+)!",
        title="BUG: bad usercopy in {frame}",
        skip="*usercopy* *__check*",
        sample="kernel BUG at mm/usercopy.c:102!",
        near_miss="kernel BUG at mm/rmap.c:1233!",
    ),
    Pattern(
        name="bug",
        type="BUG",
        needles=("BUG",),
        regex=r"[kK]ernel BUG at (?:(?P<site>[\w./()+-]{1,160}:\d+)!|(?P<fn>[\w.]{1,128})\S{0,40} \[)",
        title="kernel BUG in {frame}",
        skip="skb_*",
        within=frozenset(("rust-panic",)),
        sample="kernel BUG at mm/rmap.c:1233!",
        near_miss="this kernel BUG at my desk",
    ),
    Pattern(
        name="internal-error",
        type="DoS",
        needles=("[#",),
        regex=r"Internal error: .{0,80}?: [0-9a-fx]{1,18} \[#\d+\]",
        title="Internal error in {frame}",
        role=Role.FOLLOWS,
        sample="Internal error: Oops: 0000000096000004 [#1] PREEMPT SMP",
        near_miss="XFS (vda): Internal error: i != 1 at line 2 of file x.c",
    ),
    Pattern(
        name="unhandled-fault",
        type="DoS",
        needles=("Unhandled ",),
        regex=r"Unhandled (?:fault|prefetch abort): .{1,80}\(0x[0-9a-f]{1,8}\) at ",
        title="Unhandled fault in {frame}",
        role=Role.WEAK,
        sample="Unhandled fault: imprecise external abort (0x1406) at 0x00000000",
        near_miss="Unhandled fault in the power supply",
    ),
    Pattern(
        name="alignment-trap",
        type="DoS",
        needles=("Alignment trap: ",),
        regex=r"Alignment trap: not handling instruction ",
        title="Alignment trap in {frame}",
        # A user program's is told in the same words, and nothing follows.
        role=Role.WEAK,
        sample="Alignment trap: not handling instruction e1932f9f at [<8028bd58>]",
        near_miss="Alignment trap: drive (123) PC=0x0001 Instr=0xe1932f9f",
    ),
    Pattern(
        name="arm64-exception",
        type="DoS",
        needles=(
            "SError Interrupt",
            "Bad mode in",
        ),
        regex=r"(?P<what>SError Interrupt|Bad mode in .{1,24} handler detected) on CPU ?(?P<cpu>\d+), ",
        title="{what} in {frame}",
        sample="SError Interrupt on CPU1, code 0x00000000bf000002 -- SError",
        near_miss="SError Interrupt on CPU",
    ),
    Pattern(
        name="stack-overflow",
        type="DoS",
        needles=(
            "nsufficient stack",
            "stack overflow",
            "BUG",
        ),
        regex=(
            r"Insufficient stack space to handle exception!|Kernel stack overflow[.:]|BUG: (?:\w{1,8} )?stack guard "
            r"page was hit at "
        ),
        title="BUG: stack guard page was hit in {frame}",
        frame=Frame.STALL,
        sample="BUG: stack guard page was hit at 00000000397c6d92 (stack is 00000000a0f6b86a..000000000e6f9570)",
        near_miss="mm: stack guard page was extended",
    ),
    Pattern(
        name="double-fault",
        type="DoS",
        needles=("PANIC: double",),
        regex=r"(?:traps: )?PANIC: double fault, error_code: ",
        title="PANIC: double fault in {frame}",
        sample="traps: PANIC: double fault, error_code: 0x0",
        near_miss="tennis: PANIC: double fault",
    ),
    Pattern(
        name="s390-trap",
        type="DoS",
        needles=("[#",),
        regex=r"(?P<what>[a-z][a-z -]{2,40}exception|illegal operation|monitor event): [0-9a-f]{4} ilc:\d \[#\d+\]",
        title="{what} in {frame}",
        role=Role.FOLLOWS,
        sample="addressing exception: 0005 ilc:3 [#1] SMP",
        near_miss="User process fault: interruption code 0004 ilc:3 in drive[400000+1000]",
    ),
    Pattern(
        name="oops",
        type="DoS",
        needles=("[#",),
        regex=r"(?:Oops(?: - [\w ]{1,48})?(?:: [0-9a-f]{4,16})?|Oops: [\w ,-]{1,80}?, sig: \d+|Kernel BUG) \[#\d+\]",
        title="Oops in {frame}",
        role=Role.FOLLOWS,
        sample="Oops: Kernel access of bad area, sig: 11 [#1]",
        near_miss="Oops: something went wrong, try again",
    ),
    Pattern(
        name="bug-mips",
        type="BUG",
        needles=("[#",),
        regex=r"Kernel bug detected ?\[#\d{1,3}\]",
        title="kernel BUG in {frame}",
        role=Role.FOLLOWS,
        sample="Kernel bug detected[#1]:",
        near_miss="Kernel bug detected in the issue [#1]",
    ),
    Pattern(
        name="die-mips",
        type="DoS",
        needles=("[#",),
        regex=(
            r"(?P<what>Unhandled kernel unaligned access(?: or invalid instruction)?|"
            r"Kernel unaligned instruction access|(?:Reserved|Break|Trap) instruction in kernel code|"
            r"Unexpected exception in kernel) ?\[#\d{1,3}\]"
        ),
        title="{what} in {frame}",
        role=Role.FOLLOWS,
        sample="Unhandled kernel unaligned access[#1]:",
        near_miss="Unhandled kernel unaligned access counters",
    ),
    Pattern(
        # The text that die() was given, on any architecture: die() counts its calls.
        name="die",
        type="DoS",
        needles=("[#",),
        regex=r"(?P<what>[A-Za-z#][^\[\n]{2,80}?)(?:: [0-9a-f]{4,16})?(?:, sig: \d+)? ?\[#\d{1,3}\]",
        title="{what} in {frame}",
        role=Role.FOLLOWS,
        first=True,
        sample="Caught bus error by the data port[#1]:",
        near_miss="bisect: 12 commits [#1: good]",
    ),
    Pattern(
        name="rust-panic",
        type="BUG",
        needles=("panicked at ",),
        regex=r"rust_kernel: panicked at (?P<site>[\w./-]{1,160}:\d+)",
        title="{what} in {frame}",
        detail=r"^(?P<what>(?!rust_kernel)[a-zA-Z][^\n]{4,120})$",
        missing={"what": "rust_kernel: panicked"},
        skip="*rust_begin_unwind* rust_helper_BUG",
        sample="rust_kernel: panicked at drivers/android/binder/process.rs:12:34:",
        near_miss="rust_kernel: loaded at boot",
    ),
    Pattern(
        name="panic-stack-protector",
        type="DoS",
        needles=("ernel panic - not syncing",),
        regex=r"Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: (?P<fn>[\w.<>:$]{1,200})",
        title="kernel panic: stack is corrupted in {frame}",
        frame=Frame.LINE,
        skip="*stack_chk*",
        sample=(
            "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: udp4_lib_lookup2+0x7ea/0x7f0"
        ),
        near_miss="Kernel panic - not syncing: stack-protector is off",
    ),
    Pattern(
        name="panic-stack-end",
        type="DoS",
        needles=("ernel panic - not syncing",),
        regex=r"Kernel panic - not syncing: corrupted stack end detected inside scheduler",
        title="kernel panic: corrupted stack end in {frame}",
        frame=Frame.STALL,
        skip="*schedule* retint_kernel",
        sample="Kernel panic - not syncing: corrupted stack end detected inside scheduler",
        near_miss="Kernel panic - not syncing: corrupted stack",
    ),
    Pattern(
        name="panic-stack-overflow",
        type="DoS",
        needles=("ernel panic - not syncing",),
        regex=r"Kernel panic - not syncing: kernel stack overflow",
        title="kernel stack overflow in {frame}",
        frame=Frame.STALL,
        skip="*bad_stack*",
        role=Role.FOLLOWS,
        sample="Kernel panic - not syncing: kernel stack overflow",
        near_miss="Kernel panic - not syncing: stack overflow",
    ),
    Pattern(
        name="panic-ldisc",
        type="DoS",
        needles=("ernel panic - not syncing",),
        regex=r"Kernel panic - not syncing: Couldn't open N_TTY ldisc",
        title="kernel panic: Couldn't open N_TTY ldisc",
        frame=Frame.NONE,
        role=Role.FOLLOWS,
        sample="Kernel panic - not syncing: Couldn't open N_TTY ldisc for ptm1 --- error -12.",
        near_miss="tty: Couldn't open N_TTY ldisc for ptm1",
    ),
    Pattern(
        name="panic-consequence",
        type="DoS",
        needles=("ernel panic - not syncing",),
        regex=(
            r"Kernel panic - not syncing: (?P<what>(?:[\w -]{1,40}: )?Fatal exception(?=$|:| in interrupt)|"
            r"[\w: ]{0,24}panic_on_warn set|Machine halted|Fatal hardware error!|"
            r"Aiee, killing interrupt handler!|Oops(?=$|:)|RCU Stall|rcu_tree: stall)"
        ),
        title="kernel panic: {what}",
        frame=Frame.NONE,
        role=Role.FOLLOWS,
        sample="Kernel panic - not syncing: Fatal exception in interrupt",
        near_miss="Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
    ),
    Pattern(
        name="panic-hang",
        type="HANG",
        needles=("ernel panic - not syncing",),
        regex=(
            r"Kernel panic - not syncing: (?P<what>hung_task: blocked tasks|softlockup: hung tasks|Hard LOCKUP|"
            r"Watchdog detected hard LOCKUP|workqueue: panic_on_stall)"
        ),
        title="kernel panic: {what}",
        frame=Frame.NONE,
        role=Role.FOLLOWS,
        sample="Kernel panic - not syncing: softlockup: hung tasks",
        near_miss="Kernel panic - not syncing: Fatal exception",
    ),
    Pattern(
        name="panic",
        type="DoS",
        needles=("ernel panic - not syncing",),
        regex=r"Kernel panic - not syncing: (?P<what>[^\n]{1,160}?)(?: exitcode=0x[0-9a-f]+)?$",
        title="kernel panic: {what}",
        frame=Frame.NONE,
        role=Role.FOLLOWS,
        sample="Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        near_miss="Kernel panic - not syncing: panic_on_warn set ...",
    ),
)
