/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands of stshim: one function each, in the file of its name. */
#ifndef STSHIM_COMMAND_H
#define STSHIM_COMMAND_H

/* What stshim exits with, unless the subcommand's manual says otherwise. */
enum { EXIT_YES = 0, EXIT_NO = 1, EXIT_USAGE = 2 };

/*
 * A subcommand: argv[0] is "stshim NAME", as argp shows it; argp_err_exit_status is EXIT_USAGE.
 * Returns the exit status.
 */
typedef int command(int argc, char **argv);

command stn_tool_run, stn_tool_doctor, stn_tool_tune, stn_tool_probe;
command stn_tool_inspect, stn_tool_stats, stn_tool_bench, stn_tool_inject;

#endif
