/* SPDX-License-Identifier: Apache-2.0 */
/* The library that does nothing: what preloading costs by itself. */

/* Keeps the library from being empty. */
__attribute__((visibility("default"))) int stn_bench_empty(void);

int stn_bench_empty(void)
{
	return 0;
}
