/* SPDX-License-Identifier: Apache-2.0 */
#include "init.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "../lib/config.h"
#include "../lib/stderr.h"
#include "../lib/survey.h"
#include "real.h"

extern char **environ;

bool stn_active;

/*
 * Runs in every process of the image, nearly all of which never open a model: no system call, no
 * allocation, errno as it was. A program with more rights than its user (AT_SECURE) gets no
 * configuration and no action.
 */
__attribute__((constructor)) static void start(void)
{
	int saved = errno;

	stn_real_resolve();
	if (!getauxval(AT_SECURE)) {
		stn_config_read(&stn_config, secure_getenv);
		if (stn_config.log_level != STN_LOG_OFF)
			stn_config_find_unknown(&stn_config, environ);
		if (stn_config.mode != STN_MODE_OFF) {
			stn_survey_set_runtime_dir(secure_getenv("XDG_RUNTIME_DIR"));
			if (stn_config.log_level != STN_LOG_OFF || stn_config.progress)
				stn_stderr_watch();
			stn_active = true;
		}
	}
	errno = saved;
}
