/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/env - what clients are told through their environment, in the words of their shell.
 *
 * Never     asks the daemon: the configuration and the file of the authority say it all.
 * Threads   one.
 */
#include "tool/priv.h"

#include <sys/stat.h>
#include <sysexits.h>
#include "common/alloc.h"

#include "common/banned.h"

#define VARIABLES_MAX 20

enum shell { SHELL_SH, SHELL_FISH, SHELL_PWSH, SHELL_DOCKER, SHELL_K8S, SHELL_JSON };

struct variable {
	const char *name;
	char *value; /* owned */
	const char *comment;
};

struct variables {
	struct variable at[VARIABLES_MAX];
	size_t count;
};

static void add(struct variables *v, const char *name, char *take_value, const char *comment)
{
	v->at[v->count++] = (struct variable){ name, take_value, comment };
}

static void variables_done(struct variables *v)
{
	for (size_t i = 0; i < v->count; i++)
		free(v->at[i].value);
}

static bool shell_of(const char *word, enum shell *ret)
{
	static const struct {
		const char *word;
		enum shell shell;
	} shells[] = { { "bash", SHELL_SH },         { "sh", SHELL_SH },         { "zsh", SHELL_SH },
		       { "dash", SHELL_SH },         { "fish", SHELL_FISH },     { "pwsh", SHELL_PWSH },
		       { "powershell", SHELL_PWSH }, { "docker", SHELL_DOCKER }, { "k8s", SHELL_K8S } };

	for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++)
		if (strcmp(word, shells[i].word) == 0) {
			*ret = shells[i].shell;
			return true;
		}
	return false;
}

/* One that we do not know is most likely a sh. */
static enum shell own_shell(void)
{
	const char *path = getenv("SHELL"), *slash = path ? strrchr(path, '/') : NULL;
	enum shell shell = SHELL_SH;

	(void)(path && shell_of(slash ? slash + 1 : path, &shell));
	return shell;
}

/* --- which --- */

static void add_plain(struct variables *v, struct str url)
{
	add(v, "HF_ENDPOINT", str_dup(url),
	    "hf, huggingface_hub and all that is built on it; read when Python starts");
	add(v, "OPENAI_BASE_URL", xasprintf("%.*s/v1", STR_ARGS(url)),
	    "OpenAI's clients, all of them, with the keys they have: chat, embeddings");
	add(v, "HF_INFERENCE_ENDPOINT", str_dup(url), "InferenceClient of huggingface_hub before 0.28");
}

/* The host of an http URL, as NO_PROXY wants it. */
static struct str host_of(struct str url)
{
	const char *begin = memmem(url.ptr, url.len, "://", 3), *end;

	begin = begin ? begin + 3 : url.ptr;
	end = begin;
	while (end < url.ptr + url.len && *end != '/' && (*end != ':' || *begin == '['))
		if (*end++ == ']')
			break;
	return *begin == '[' && end > begin + 2 ? str_from_range(begin + 1, end - 1)
						: str_from_range(begin, end);
}

static void add_intercept(struct variables *v, struct str url, const char *proxy, const char *ca)
{
	struct str host = host_of(url);
	bool is_local =
		str_eq(host, STR("localhost")) || str_eq(host, STR("127.0.0.1")) || str_eq(host, STR("::1"));

	add(v, "HTTPS_PROXY", xasprintf("http://%s", proxy),
	    "clients with fixed hosts: InferenceClient, @huggingface/inference");
	add(v, "NO_PROXY",
	    xasprintf("localhost,127.0.0.1,::1%s%.*s", is_local ? "" : ",", is_local ? 0 : (int)host.len,
		      host.ptr),
	    "this cache itself is asked directly");
	add(v, "SSL_CERT_FILE", xstrdup(ca), "httpx, OpenSSL, Go, Rust");
	add(v, "REQUESTS_CA_BUNDLE", xstrdup(ca), "requests");
	add(v, "CURL_CA_BUNDLE", xstrdup(ca), "curl");
	add(v, "GIT_SSL_CAINFO", xstrdup(ca), "git, git-lfs");
	add(v, "NODE_EXTRA_CA_CERTS", xstrdup(ca), "Node");
	add(v, "NODE_USE_ENV_PROXY", xstrdup("1"), "Node 22.21, 24 and later: lets fetch() use the proxy");
}

/* May every user of this machine read it, and come to it? */
static bool is_for_everybody(const char *path)
{
	SCOPED_FREE char *rest = xstrdup(path);
	struct stat st;

	if (stat(rest, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH))
		return false;
	for (char *slash = strrchr(rest, '/'); slash; slash = strrchr(rest, '/')) {
		slash[slash == rest] = 0; /* the first one is the root itself */
		if (stat(rest, &st) < 0 || !(st.st_mode & S_IXOTH))
			return false;
		if (slash == rest)
			break;
	}
	return true;
}

/*
 * The daemon's own file does where it is for everybody on this machine, and clients meet no certificates but its. The caller's,
 * or NULL.
 */
static char *own_ca(const struct args *a, enum shell shell, struct str url)
{
	SCOPED_FREE char *full = a->opts->ca_path ? realpath(a->opts->ca_path, NULL) : NULL;
	bool is_for_here = shell != SHELL_DOCKER && shell != SHELL_K8S;
	bool meets_others = a->opts->intercept_tunnels || str_starts_with(url, STR("https://"));

	return full && is_for_here && !meets_others && is_for_everybody(full) ? TAKE_PTR(full) : NULL;
}

static int collect_intercept(const struct args *a, enum shell shell, struct variables *v, struct str url)
{
	const char *ca = arg_value(a, FLAG_env_ca);
	SCOPED_FREE char *full = NULL;

	if (!a->opts->intercept_address)
		return tool_say(EX_CONFIG,
				"intercept.enabled is no in the configuration that was read here; if the "
				"daemon was told "
				"otherwise, say it here too: --config, or --set intercept.enabled=yes");
	if (!*a->opts->intercept_address)
		return tool_say(EX_CONFIG, "the configuration does not say where clients find the proxy: "
					   "server.listen has no address with a port");
	/* a file of another machine stays as it is written */
	full = ca ? realpath(ca, NULL) : own_ca(a, shell, url);
	if (!ca && !full)
		return tool_say_lines(EX_USAGE,
				      "--intercept needs a file of certificates that clients may read:\n"
				      "  hfcache ca export --bundle -o hfcached.pem\n"
				      "  hfcache env --intercept --ca hfcached.pem");
	add_intercept(v, url, a->opts->intercept_address, full ? full : ca);
	return 0;
}

/* Not every form can carry what would end its line, and none needs to. */
static int check_values(const struct variables *v)
{
	for (size_t i = 0; i < v->count; i++)
		if (!is_plain_text(str_from(v->at[i].value)))
			return tool_say(
				EX_USAGE,
				"%s would hold control characters, or bytes that are no UTF-8: \"%s\"",
				v->at[i].name, v->at[i].value);
	return 0;
}

static int collect(const struct args *a, enum shell shell, struct variables *v)
{
	const char *given = arg_value(a, FLAG_env_url) ? arg_value(a, FLAG_env_url) : a->opts->url;
	struct str url = str_from(given);

	if (!given)
		return tool_say(EX_CONFIG, "the configuration does not say where clients reach this cache: "
					   "set server.public-url, or say --url");
	while (url.len && url.ptr[url.len - 1] == '/')
		url.len--;
	if (!str_starts_with(url, STR("http://")) && !str_starts_with(url, STR("https://")))
		return tool_say(EX_USAGE, "\"%s\" is no address: it begins with http:// or https://", given);
	for (size_t i = 0; i < url.len; i++)
		if ((unsigned char)url.ptr[i] <= ' ' || url.ptr[i] == 127)
			return tool_say(EX_USAGE, "an address has no white space");
	add_plain(v, url);
	return arg_has(a, FLAG_env_intercept) ? collect_intercept(a, shell, v, url) : 0;
}

/* --- how --- */

/* The quotes of typographers, U+2018 to U+201B: PowerShell takes them for its own. */
static bool is_fine_quote(const char *text)
{
	return strncmp(text, "\xe2\x80", 2) == 0 && (unsigned char)text[2] >= 0x98 &&
	       (unsigned char)text[2] <= 0x9b;
}

/* In single quotes that are doubled inside. */
static void print_for_powershell(const char *text)
{
	(void)putchar('\'');
	for (; *text; text++) {
		size_t len = is_fine_quote(text) ? 3 : 1;

		if (len == 3 || *text == '\'')
			(void)fwrite(text, 1, len, stdout);
		(void)fwrite(text, 1, len, stdout);
		text += len - 1;
	}
	(void)putchar('\'');
}

/* In quotes that take nothing for a sign of their own but what is replaced here. */
static void print_quoted(const char *text, const char *quote, const char *backslash)
{
	(void)putchar('\'');
	for (; *text; text++) {
		if (*text == '\'')
			(void)fputs(quote, stdout);
		else if (*text == '\\')
			(void)fputs(backslash, stdout);
		else
			(void)putchar(*text);
	}
	(void)putchar('\'');
}

static void print_json_text(const char *text)
{
	SCOPED_BUF out = { 0 };

	buf_init(&out, 1 << 16);
	(void)json_write_string(&out, str_from(text)); /* words of a command line are shorter */
	(void)fputs(buf_str(&out).ptr, stdout);
}

static void print_variable(enum shell shell, const struct variable *v)
{
	if (shell != SHELL_JSON)
		(void)printf("# %s\n", v->comment);
	switch (shell) {
	case SHELL_SH:
		(void)printf("export %s=", v->name);
		print_quoted(v->value, "'\\''", "\\");
		break;
	case SHELL_FISH:
		(void)printf("set -gx %s ", v->name);
		print_quoted(v->value, "\\'", "\\\\");
		break;
	case SHELL_PWSH:
		(void)printf("$Env:%s = ", v->name);
		print_for_powershell(v->value);
		break;
	case SHELL_DOCKER:
		(void)printf("%s=%s", v->name, v->value);
		break;
	case SHELL_K8S:
		(void)printf("- name: %s\n  value: ", v->name);
		print_json_text(v->value); /* YAML reads it too */
		break;
	case SHELL_JSON:
		break;
	}
	(void)putchar('\n');
}

static void print_json(const struct variables *v)
{
	(void)putchar('{');
	for (size_t i = 0; i < v->count; i++) {
		(void)printf("%s\"%s\":", i ? "," : "", v->at[i].name);
		print_json_text(v->at[i].value);
	}
	(void)fputs("}\n", stdout);
}

static const char *usage_of(enum shell shell)
{
	switch (shell) {
	case SHELL_SH:
		return "eval \"$(hfcache env)\"";
	case SHELL_FISH:
		return "hfcache env --shell fish | source";
	case SHELL_PWSH:
		return "hfcache env --shell pwsh | Out-String | Invoke-Expression";
	case SHELL_DOCKER:
		return "docker run --env-file FILE";
	case SHELL_K8S:
		return "below env: of a container";
	case SHELL_JSON:
		break;
	}
	return "";
}

int verb_env(const struct args *a)
{
	const char *word = arg_value(a, FLAG_env_shell);
	enum shell shell = own_shell();
	struct variables v = { .count = 0 };
	int code;

	if (word && !shell_of(word, &shell))
		return tool_say(EX_USAGE, "\"%s\" is none of bash, fish, pwsh, docker and k8s", word);
	code = collect(a, shell, &v);
	if (code == 0)
		code = check_values(&v);
	if (code == 0 && arg_has(a, FLAG_env_json)) {
		print_json(&v);
	} else if (code == 0) {
		(void)printf("# %s\n", usage_of(shell));
		for (size_t i = 0; i < v.count; i++)
			print_variable(shell, &v.at[i]);
	}
	variables_done(&v);
	return code;
}
