/* SPDX-License-Identifier: Apache-2.0 */
/* A library with nothing in it: what a preloaded one costs at least. */
typedef int nothing;
