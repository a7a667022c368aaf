// SPDX-License-Identifier: Apache-2.0
// What a user of the JavaScript clients of inference writes: node calls.mjs '[["task", {...}], ...]' prints one line of JSON, a list of
// {"value": ...} or {"error": class, "message": ..., "status": ...}. Nothing of a client is set but the address it is for.
// Times are of the machine's monotonic clock, in seconds.
import { createHash } from "node:crypto";

const now = () => Number(process.hrtime.bigint()) / 1e9;
const packages = { 4: "@huggingface/inference", 3: "inference3", 2: "inference2" };

async function hf(version, token) {
	const found = await import(packages[version]);
	return new (version === 4 ? found.InferenceClient : found.HfInference)(token ?? undefined);
}

// A Blob or bytes as what can be compared.
async function plain(value) {
	if (value instanceof Blob) {
		const bytes = Buffer.from(await value.arrayBuffer());
		return { type: value.type, size: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
	}
	return value;
}

// The older ones name the address of a model "model", the newest "endpointUrl".
const at = (version, url) => (version === 2 ? { model: url } : { endpointUrl: url });

async function task({ version, url, name, args, raw, token }) {
	const client = await hf(version, token);
	const given = { ...at(version, url), ...args };
	if (raw != null) given.data = new Blob([Buffer.from(raw, "base64")]);
	return plain(await client[name](given));
}

async function stream({ version, url, name, args, token }) {
	const client = await hf(version, token);
	const events = [], times = [];
	for await (const one of client[name]({ ...at(version, url), ...args })) {
		times.push(now());
		events.push(one);
	}
	return { events, times };
}

// what: "chat.completions.create" and the like
async function openai({ url, what, args, key, raw }) {
	const { default: OpenAI, toFile } = await import("openai");
	let owner = new OpenAI({ baseURL: url, apiKey: key ?? "nobody" });
	const names = what.split(".");
	for (const name of names.slice(0, -1)) owner = owner[name];
	const given = { ...args };
	if (raw != null) given.file = await toFile(Buffer.from(raw, "base64"), "sound.flac");
	const found = await owner[names.at(-1)](given);
	if (what === "models.list") {
		const all = [];
		for await (const one of found) all.push(one);
		return all;
	}
	if (!given.stream) return found;
	const events = [], times = [];
	for await (const one of found) {
		times.push(now());
		events.push(one);
	}
	return { events, times };
}

// A whole session with a Gradio app: [[api name, values]...]; of files that come back, what they hold.
async function gradio({ url, session }) {
	const { Client } = await import("@gradio/client");
	const app = await Client.connect(url);
	const out = [];
	for (const [name, values] of session) {
		const given = values.map((v) => (v?.blob === undefined ? v : new Blob([v.blob])));
		const [first] = (await app.predict(name, given)).data;
		out.push(first?.url ? { url: first.url, text: await (await fetch(first.url)).text() } : first);
	}
	app.close();
	return { root: app.config.root, out };
}

const calls = { task, stream, openai, gradio };
const results = [];
for (const [name, args] of JSON.parse(process.argv[2])) {
	try {
		results.push({ value: await calls[name](args) });
	} catch (trouble) {
		results.push({ error: trouble.constructor.name, message: String(trouble?.message ?? trouble), status: trouble?.status ?? null,
			body: trouble?.httpResponse?.body ?? null });
	}
}
console.log(JSON.stringify(results));
process.exit(0);
