/* SPDX-License-Identifier: Apache-2.0 */
#include "thread.h"

#include <errno.h>
#include <linux/sched.h>

#include "sys.h"

/*
 * long stn_thread_clone(flags, stack, parent_tid, child_tid, entry, argument)
 * In the child: calls entry(argument) on the new stack, then exits that thread alone. The return
 * address is undefined for unwinders: this is where a thread's stack begins.
 */
long stn_thread_clone(unsigned long flags, void *stack, int *parent_tid, int *child_tid,
		      void (*entry)(void *), void *argument);

#if defined(__x86_64__)
__asm__(".text\n"
	".type stn_thread_clone, @function\n"
	".hidden stn_thread_clone\n"
	".globl stn_thread_clone\n"
	"stn_thread_clone:\n"
	".cfi_startproc\n"
	"	sub $16, %rsi\n"
	"	mov %r8, (%rsi)\n"
	"	mov %r9, 8(%rsi)\n"
	"	mov %rcx, %r10\n"
	"	xor %r8d, %r8d\n"
	"	mov $56, %eax\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jz 1f\n"
	"	ret\n"
	"1:	.cfi_undefined rip\n"
	"	xor %ebp, %ebp\n"
	"	pop %rax\n"
	"	pop %rdi\n"
	"	call *%rax\n"
	"	xor %edi, %edi\n"
	"	mov $60, %eax\n"
	"	syscall\n"
	"	hlt\n"
	".cfi_endproc\n"
	".size stn_thread_clone, . - stn_thread_clone\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".type stn_thread_clone, %function\n"
	".hidden stn_thread_clone\n"
	".globl stn_thread_clone\n"
	"stn_thread_clone:\n"
	".cfi_startproc\n"
	"	stp x4, x5, [x1, #-16]!\n"
	"	mov x4, x3\n"
	"	mov x3, xzr\n"
	"	mov x8, #220\n"
	"	svc #0\n"
	"	cbz x0, 1f\n"
	"	ret\n"
	"1:	.cfi_undefined x30\n"
	"	ldp x1, x0, [sp], #16\n"
	"	mov x29, xzr\n"
	"	mov x30, xzr\n"
	"	blr x1\n"
	"	mov x0, xzr\n"
	"	mov x8, #93\n"
	"	svc #0\n"
	".cfi_endproc\n"
	".size stn_thread_clone, . - stn_thread_clone\n");
#endif

int stn_thread_start(void *stack_end, void (*entry)(void *), void *argument, int *tid)
{
	const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
				    CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID |
				    CLONE_CHILD_CLEARTID;
#ifdef STN_INJECT
	long none = 0, instead;

	if (stn_inject(SYS_clone, 0, 0, &none, &instead))
		return (int)instead;
#endif
	return (int)stn_thread_clone(flags, stack_end, tid, tid, entry, argument);
}

bool stn_thread_await(int tid, unsigned long limit)
{
	uint64_t until = stn_sys_clock(CLOCK_MONOTONIC) + limit;

	while (stn_sys_thread_probe(tid) != -ESRCH) {
		if (stn_sys_clock(CLOCK_MONOTONIC) > until)
			return false;
		stn_sys_sleep(20000);
	}
	return true;
}
