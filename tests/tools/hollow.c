/* SPDX-License-Identifier: Apache-2.0 */
/* A library that has none of the symbols that are looked for in it. */
int hollow;
