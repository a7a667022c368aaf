/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for the administrator's list and the words in it. Input: the list. Either it is good, or each mistake is told with
 * its line; a good one can be asked about anybody.
 */
#include <assert.h>

#include "auth/priv.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_words(struct str line)
{
	while (line.len) {
		struct peer peer;
		struct whom w;
		struct str word;

		(void)str_cut(line, ' ', &word, &line);
		peer_parse(word, &peer);
		(void)peer_is_this_machine(&peer);
		if (repo_pattern_is_sound(word)) {
			assert(repo_pattern_matches(STR("*"), word));
			assert(repo_pattern_matches(word, word));
		}
		/* an address means itself */
		if (peer.kind == PEER_ADDRESS && whom_parse(word, &w) == 0)
			assert(whom_is(&w, &(struct subject){ .peer = peer }));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size }, rest = text;
	struct acl *acl = NULL;
	struct subject s = { .fingerprint = "-" };
	SCOPED_BUF errors;

	buf_init(&errors, 1 << 20);
	if (acl_parse("list", text, &acl, &errors) == 0) {
		assert(buf_str(&errors).len == 0);
		peer_parse(STR("10.1.2.3"), &s.peer);
		(void)acl_allows(acl, &s, STR("models/acme/x"));
		acl_unref(acl);
	} else {
		assert(str_starts_with(buf_str(&errors), STR("list:")) || buf_error(&errors));
		assert(!acl);
	}
	while (rest.len) {
		struct str line;

		(void)str_cut(rest, '\n', &line, &rest);
		check_words(line);
	}
	return 0;
}
