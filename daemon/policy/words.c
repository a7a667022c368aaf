/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy/words - how configuration and status call what policy knows as numbers. Options have the same words (config/value.c).
 */
#include "policy/priv.h"

#include <errno.h>

#include "common/banned.h"

static const char *const modes[] = {
	[INFER_OFF] = "off",         [INFER_DETERMINISTIC] = "deterministic",
	[INFER_RECORD] = "record",   [INFER_REPLAY] = "replay",
	[INFER_OFFLINE] = "offline",
};

static const char *const kinds[] = {
	[BACKEND_HF] = "hf",         [BACKEND_TGI] = "tgi",           [BACKEND_TEI] = "tei",
	[BACKEND_VLLM] = "vllm",     [BACKEND_LLAMACPP] = "llamacpp", [BACKEND_OLLAMA] = "ollama",
	[BACKEND_OPENAI] = "openai",
};

int policy_infer_mode(struct str word)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (str_eq(word, str_from(modes[i])))
			return (int)i;
	return -EINVAL;
}

const char *policy_backend_name(enum backend_kind kind)
{
	return kinds[kind];
}
