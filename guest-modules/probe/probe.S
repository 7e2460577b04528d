/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The smallest guest that proves an accelerator: entered in 32-bit protected
 * mode through PVH, it turns long mode on and does there what a kernel cannot
 * do without. Then it writes a line to QEMU's debug port and ends QEMU through
 * isa-debug-exit.
 *
 * 64-bit code as such is no proof. A /dev/kvm was seen, on a machine without
 * VMX, that emulates every instruction: it entered long mode and wrote the
 * line, in 2.5 s where TCG takes 0.1 s, and a kernel ended in "KVM internal
 * error" at its first cmpxchg16b. Hence the atomic, the page fault, the
 * interrupt, and work enough for the speed to be told from the time it takes.
 */
#define ROUNDS 10000000
#define FAULT_VECTOR 14
#define TIMER_VECTOR 0x20
#define FAR_ADDRESS 0x40000000		/* the first address that is not mapped */

	.section .note.pvh, "a", @note
	.balign 4
	.long 2f - 1f
	.long 4f - 3f
	.long 18			/* XEN_ELFNOTE_PHYS32_ENTRY: where QEMU jumps to */
1:	.asciz "Xen"
2:	.balign 4
3:	.long _start
4:	.balign 4

	.text
	.code32
	.globl _start
_start:
	/* One top entry, one below it, then 512 pages of 2 MiB: the first GiB as it is. */
	movl	$tables, %edi
	leal	0x1003(%edi), %eax
	movl	%eax, (%edi)
	leal	0x2003(%edi), %eax
	movl	%eax, 0x1000(%edi)
	xorl	%ecx, %ecx
	movl	$0x83, %eax
1:	movl	%eax, 0x2000(%edi, %ecx, 8)
	addl	$0x200000, %eax
	incl	%ecx
	cmpl	$512, %ecx
	jne	1b

	movl	%edi, %cr3
	movl	%cr4, %eax
	orl	$0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx	/* EFER */
	rdmsr
	orl	$0x100, %eax		/* LME */
	wrmsr
	movl	%cr0, %eax
	andl	$~0x4, %eax		/* EM */
	orl	$0x80000003, %eax	/* PG, MP, PE */
	movl	%eax, %cr0
	lgdt	gdt_pointer
	ljmp	$8, $long_mode

	.code64
long_mode:
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$stack_end, %esp

	movl	$FAULT_VECTOR, %edi
	movl	$page_fault, %esi
	call	set_gate
	movl	$TIMER_VECTOR, %edi
	movl	$timer, %esi
	call	set_gate
	lidt	idt_pointer

	/* The atomic that the slab allocator of an x86-64 kernel is built on. */
	xorl	%eax, %eax
	xorl	%edx, %edx
	movl	$1, %ebx
	movl	$2, %ecx
	lock cmpxchg16b pair
	jnz	stuck
	movups	pair, %xmm0
	paddq	%xmm0, %xmm0
	movups	%xmm0, pair
	cmpq	$2, pair
	jne	stuck

	/* A page fault that is mended and tried again. */
	movl	$FAR_ADDRESS, %eax
	movq	pair, %rdx
	movq	%rdx, (%rax)
	cmpq	$2, (%rax)
	jne	stuck

	/* A tick of the timer: PIC at 0x20, all but line 0 masked, PIT at 1 kHz. */
	movb	$0x11, %al
	outb	%al, $0x20
	movb	$TIMER_VECTOR, %al
	outb	%al, $0x21
	movb	$0x04, %al
	outb	%al, $0x21
	movb	$0x01, %al
	outb	%al, $0x21
	movb	$0xfe, %al
	outb	%al, $0x21
	movb	$0xff, %al
	outb	%al, $0xa1
	movb	$0x34, %al
	outb	%al, $0x43
	movw	$1193, %ax
	outb	%al, $0x40
	movb	%ah, %al
	outb	%al, $0x40
	sti
1:	hlt
	cmpl	$0, ticks
	je	1b
	cli

	movq	$0x123456789abcdef, %r8
	movl	$ROUNDS, %ecx
1:	imulq	%r8, %r8
	incq	%r8
	decl	%ecx
	jnz	1b

	leaq	message(%rip), %rsi
	movl	$message_end - message, %ecx
	movw	$0xe9, %dx
	rep outsb
	movw	$0xf4, %dx		/* QEMU ends with status (0x10 << 1) | 1 = 33 */
	movl	$0x10, %eax
	outl	%eax, %dx
stuck:
	cli
	hlt
	jmp	stuck

/* Vector %edi goes to the handler at %esi. */
set_gate:
	shll	$4, %edi
	addl	$idt, %edi
	movw	%si, (%rdi)
	movw	$8, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	shrl	$16, %esi
	movw	%si, 6(%rdi)
	ret

/* Maps the second GiB onto the first. */
page_fault:
	pushq	%rax
	movl	$tables + 0x2003, %eax
	movq	%rax, tables + 0x1008
	popq	%rax
	addq	$8, %rsp		/* the error code */
	iretq

timer:
	pushq	%rax
	incl	ticks
	movb	$0x20, %al
	outb	%al, $0x20
	popq	%rax
	iretq

	.section .rodata
message:
	.ascii "64-bit code ran\n"
message_end:
	.balign 8
gdt:
	.quad 0
	.quad 0x00af9a000000ffff	/* 64-bit code */
gdt_pointer:
	.word gdt_pointer - gdt - 1
	.long gdt
idt_pointer:
	.word 256 * 16 - 1
	.quad idt

	.bss
	.balign 4096
tables:
	.skip 0x3000
idt:
	.skip 256 * 16
pair:
	.skip 16
ticks:
	.skip 8
	.skip 1024
stack_end:

	.section .note.GNU-stack, "", @progbits
