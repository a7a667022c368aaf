/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main - the command line and signals; nothing else.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include "common/alloc.h"
#include "common/log.h"
#include "command.h"
#include "house.h"
#include "notify.h"
#include "roads.h"

/* Every descriptor may be a client or a blob. */
static void raise_descriptor_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max < 1048576 ? files.rlim_max : 1048576;
		(void)setrlimit(RLIMIT_NOFILE, &files); /* the old limit is good enough to go on with */
	}
}

/* A core file would hold the tokens of everybody who is being served. */
static void forbid_core_files(void)
{
	struct rlimit core;

	if (getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max > 0)
		(void)setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
}

static int block_signals(void)
{
	sigset_t set;

	(void)signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/*
 * All or nothing: with one error in the new configuration everything stays as it is. *latest is replaced; the one that we
 * started with lives on, since the rooms hold on to it.
 */
static void reload(struct house *h, const struct config *started_with, struct config **latest,
		   const struct config_source *source)
{
	struct rights *rights = NULL;
	struct config *next = NULL;
	SCOPED_BUF text;

	buf_init(&text, 65536);
	notify_reloading();
	if (config_load(source, &next, &text) < 0 || rights_load(next, &rights, &text) < 0) {
		config_free(next);
		log_error("main", "the new configuration is not used", LOG_STR("errors", buf_str(&text)),
			  LOG_END);
	} else {
		house_set_options(h, next, rights);
		if (config_changes_for_restart(started_with, next, &text) > 0)
			log_warning("main", "some changed options take effect with the next start only",
				    LOG_STR("options", buf_str(&text)), LOG_END);
		log_info("main", "reloaded", LOG_END);
		config_free(*latest);
		*latest = next;
	}
	rights_free(rights);
	notify_ready("serving");
}

/* true: a signal has come; false: it is time to tell the service manager that we live. */
static bool wait_for_signal(int signals)
{
	uint64_t interval_ms = notify_alive_interval_ms();
	struct pollfd fd = { .fd = signals, .events = POLLIN };

	return poll(&fd, 1, interval_ms ? (int)interval_ms : -1) > 0;
}

/* Until the signal to stop; tells the service manager that all is well meanwhile. */
static void serve(struct house *h, const struct config *started_with, struct config **latest,
		  const struct config_source *source, int signals)
{
	for (;;) {
		struct signalfd_siginfo info;

		if (wait_for_signal(signals)) {
			if (read(signals, &info, sizeof(info)) != sizeof(info))
				continue;
			if (info.ssi_signo != SIGHUP)
				return;
			reload(h, started_with, latest, source);
		}
		if (house_is_alive(h))
			notify_alive();
	}
}

/* The first lines say what to type next: with the name that other machines know us by, where there is one. */
static void greet(const struct config *config, const char *address)
{
	char host[256] = "", port[16] = "";
	const char *colon = strrchr(address, ':');
	SCOPED_FREE char *url = NULL;

	if (*config->server_public_url) {
		url = xstrdup(config->server_public_url);
	} else if (colon && (strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0) &&
		   gethostname(host, sizeof(host) - 1) == 0) {
		(void)snprintf(port, sizeof(port), "%s", colon);
		url = xasprintf("http://%s%s", host, port);
	} else {
		url = xasprintf("http://%s", address);
	}
	(void)printf("Serving on http://%s\n"
		     "  export HF_ENDPOINT=%s\n"
		     "  hf download openai-community/gpt2\n"
		     "Look at %s/-/ for more.\n",
		     address, url, url);
	(void)fflush(stdout);
}

static int run(const struct config *config, struct rights *rights, const struct config_source *source)
{
	struct config *latest = NULL;
	struct house *h = NULL;
	int signals = block_signals(), r;

	(void)umask(0077); /* what we write is ours alone */
	raise_descriptor_limit();
	forbid_core_files();
	log_set_level(config->log_level);
	r = house_start(config, rights, &h);
	rights_free(rights);
	if (r == 0) {
		greet(config, house_address(h));
		notify_ready("serving");
		serve(h, config, &latest, source, signals);
		notify_stopping("finishing running answers");
		house_stop(h, (latest ? latest : config)->server_drain_timeout);
		config_free(latest);
	}
	(void)close(signals);
	return r;
}

/* --- command line --- */

static int usage(FILE *out)
{
	(void)fputs(
		"usage: hfcached [--config FILE] [--set SECTION.KEY=VALUE]... [--check-config | "
		"--show-config | --example-config | --subject]\n"
		"\n"
		"  --config FILE       read FILE (and FILE.d/*.conf) instead of /etc/hfcached/hfcached.conf\n"
		"  --set S.K=VALUE     one option; wins over files and environment; may repeat\n"
		"  --check-config      say whether the configuration is good, and stop\n"
		"  --show-config       print every option, its value and where it came from\n"
		"  --example-config    print an example file with every default\n"
		"  --subject           read a token from standard input, print what stands for it in "
		"offline.acl-file\n"
		"  --version, --help\n"
		"\n"
		"Nothing is required: without any of them it serves on 127.0.0.1:8090. See hfcached(8), "
		"hfcached.conf(5).\n",
		out);
	return out == stdout ? 0 : EX_USAGE;
}

enum { OPT_CONFIG = 1, OPT_SET, OPT_CHECK, OPT_SHOW, OPT_EXAMPLE, OPT_SUBJECT, OPT_VERSION, OPT_HELP };

static int print_config(const struct config *config)
{
	SCOPED_BUF text;

	buf_init(&text, 1 << 20);
	if (config ? config_show(config, &text) < 0 : config_example(&text) < 0)
		return EX_SOFTWARE;
	(void)fputs(buf_str(&text).ptr, stdout);
	return 0;
}

/* true: nothing is wrong; what should be known is said here for --check-config, and by the log at a start. */
static bool check_roads(const struct config *config, bool is_told, struct buf *errors)
{
	SCOPED_FREE char *store = house_store_path(config);
	SCOPED_BUF warnings;

	buf_init(&warnings, 65536);
	if (roads_check(config, store, errors, &warnings) < 0)
		return false;
	if (is_told)
		(void)fputs(buf_str(&warnings).ptr, stderr);
	return true;
}

static int configure_and_run(const struct config_source *source, int action)
{
	struct rights *rights = NULL;
	struct config *config = NULL;
	SCOPED_BUF errors;
	int r;

	buf_init(&errors, 65536);
	if (config_load(source, &config, &errors) < 0) {
		(void)fputs(buf_str(&errors).ptr, stderr);
		return EX_CONFIG;
	}
	if (action == OPT_SHOW) {
		r = print_config(config);
	} else if (action == OPT_SUBJECT) {
		SCOPED_FREE char *store = house_store_path(config);

		r = rights_print_subject(store);
	} else if (rights_load(config, &rights, &errors) < 0 ||
		   !check_roads(config, action == OPT_CHECK, &errors)) {
		(void)fputs(buf_str(&errors).ptr, stderr);
		rights_free(rights);
		r = EX_CONFIG;
	} else if (action == OPT_CHECK) {
		(void)puts("configuration ok");
		rights_free(rights);
		r = 0;
	} else {
		r = run(config, rights, source);
	}
	config_free(config);
	return r;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "config", required_argument, NULL, OPT_CONFIG },
						 { "set", required_argument, NULL, OPT_SET },
						 { "check-config", no_argument, NULL, OPT_CHECK },
						 { "show-config", no_argument, NULL, OPT_SHOW },
						 { "example-config", no_argument, NULL, OPT_EXAMPLE },
						 { "subject", no_argument, NULL, OPT_SUBJECT },
						 { "version", no_argument, NULL, OPT_VERSION },
						 { "help", no_argument, NULL, OPT_HELP },
						 { 0 } };
	SCOPED_FREE const char **sets = xcalloc((size_t)argc + 1, sizeof(*sets));
	struct config_source source = { .sets = sets, .environment = environ, .system_root = "" };
	int option, action = 0;
	size_t set_count = 0;

	if (command_is_meant(argv[0])) {
		free(TAKE_PTR(sets));
		return command_run(argc, argv);
	}
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case OPT_CONFIG:
			source.file = optarg;
			break;
		case OPT_SET:
			sets[set_count++] = optarg;
			break;
		case OPT_CHECK:
		case OPT_SHOW:
		case OPT_SUBJECT:
			action = option;
			break;
		case OPT_EXAMPLE:
			return print_config(NULL);
		case OPT_VERSION:
			(void)puts("hfcached " HFCACHED_VERSION);
			return 0;
		case OPT_HELP:
		case 'h':
			return usage(stdout);
		default:
			return usage(stderr);
		}
	}
	if (optind < argc) {
		(void)say(EX_USAGE, "unexpected argument: %s", argv[optind]);
		return usage(stderr);
	}
	return configure_and_run(&source, action);
}
