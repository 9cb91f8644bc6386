/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest 32-bit program: exit(7), without a library. */
void _start(void);

void _start(void)
{
	__asm__ volatile("mov $1, %eax; mov $7, %ebx; int $0x80");
}
