/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"

#include "counter.h"
#include "fault.h"
#include "read.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Answers that a command was done or not understood. */
static void print_outcome(FILE *out, int done)
{
	fputs(done ? "{\"ok\":true}\n" : "{\"error\":\"bad command\"}\n", out);
}

/* Does "delay MS". */
static void command_delay(FILE *out, const char *text)
{
	char *end;
	double milliseconds = strtod(text, &end);
	int good = end != text && *end == '\0' && milliseconds >= 0 && milliseconds < 4e9;

	if (good)
		read_set_delay(milliseconds);
	print_outcome(out, good);
}

/* Does one command and prints one line of JSON. */
static void do_command(FILE *out, const char *line)
{
	if (strcmp(line, "stats") == 0) {
		counter_print(out);
	} else if (strcmp(line, "reset") == 0) {
		counter_reset();
		print_outcome(out, 1);
	} else if (strcmp(line, "release") == 0) {
		fprintf(out, "{\"ok\":true,\"released\":%u}\n", read_release());
	} else if (strncmp(line, "fault ", 6) == 0) {
		print_outcome(out, fault_add(line + 6) == 0);
	} else if (strcmp(line, "nofaults") == 0) {
		fault_clear();
		print_outcome(out, 1);
	} else if (strncmp(line, "delay ", 6) == 0) {
		command_delay(out, line + 6);
	} else {
		print_outcome(out, 0);
	}
}

/* Serves one connection until its other end closes it. */
static void *serve_connection(void *argument)
{
	int fd = (int)(intptr_t)argument;
	FILE *in = fdopen(fd, "r");
	FILE *out = fdopen(dup(fd), "w");
	char *line = NULL;
	size_t room = 0;

	while (in != NULL && out != NULL && getline(&line, &room, in) > 0) {
		line[strcspn(line, "\n")] = '\0';
		do_command(out, line);
		fflush(out);
	}
	free(line);
	if (in != NULL)
		fclose(in);
	if (out != NULL)
		fclose(out);
	return NULL;
}

/* Accepts connections, each in a thread of its own. */
static void *accept_connections(void *argument)
{
	int listener = (int)(intptr_t)argument;

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		pthread_t thread;

		if (fd < 0)
			continue;
		if (pthread_create(&thread, NULL, serve_connection, (void *)(intptr_t)fd) != 0)
			close(fd);
		else
			pthread_detach(thread);
	}
	return NULL;
}

/* Opens the control socket at path and serves it in a thread. Returns 0 or -errno. */
int control_start(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	pthread_t thread;
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 16) != 0 ||
	    pthread_create(&thread, NULL, accept_connections, (void *)(intptr_t)fd) != 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	pthread_detach(thread);
	return 0;
}
