// SPDX-License-Identifier: Apache-2.0
// What a user writes who knows of no cache: node unaware.mjs '[["task", {...}], ...]' prints one line of JSON, as calls.mjs does. No
// client is told an address, but openai the one of the documentation.
async function hf(version, token) {
	const found = await import({ 4: "@huggingface/inference", 3: "inference3", 2: "inference2" }[version]);
	return new (version === 4 ? found.InferenceClient : found.HfInference)(token ?? undefined);
}

const calls = {
	task: async ({ version, name, args, token }) => (await hf(version, token))[name](args),
	async stream({ version, name, args, token }) {
		const events = [];
		for await (const one of (await hf(version, token))[name](args)) events.push(one);
		return events;
	},
	async openai({ args, key }) {
		const { default: OpenAI } = await import("openai");
		return new OpenAI({ baseURL: "https://router.huggingface.co/v1", apiKey: key ?? "nobody" }).chat.completions.create(args);
	},
};
const results = [];
for (const [name, args] of JSON.parse(process.argv[2])) {
	try {
		results.push({ value: await calls[name](args) });
	} catch (trouble) {
		results.push({ error: trouble.constructor.name, message: String(trouble?.message ?? trouble) + " " + String(trouble?.cause ?? "") });
	}
}
console.log(JSON.stringify(results));
process.exit(0);
