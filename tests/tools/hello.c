/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is built in several ways which the library cannot help. */
#include <unistd.h>

#ifdef GO_NOTE
/* As the Go linker marks its programs. */
__asm__(".section .note.go.buildid,\"a\",@note\n"
	".long 4, 4, 4\n"
	".ascii \"Go\\0\\0abcd\"\n"
	".previous\n");
#endif

int main(void)
{
	return write(1, "hello\n", 6) == 6 ? 0 : 1;
}
