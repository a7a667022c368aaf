// SPDX-License-Identifier: Apache-2.0
// What a user of the JavaScript clients writes, one function for each use; run with Node on a fresh machine.
//
//   node calls.mjs '[["modelInfo", {"name": "acme/pub"}]]'
//
// HUB names the Hub's address, TOKEN a token: these clients read no variable, so a program gives them both. The last line of the
// output is JSON: a list of {"value": ...} or {"error": name, "message": ..., "status": ...}.
// Never     sets an option of a client but its address and its token, or catches what a user would see.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import * as hub from "@huggingface/hub";

const url = process.env.HUB;
const common = { hubUrl: url, ...(process.env.TOKEN ? { accessToken: process.env.TOKEN } : {}) };

async function sha256(chunks) {
	const digest = createHash("sha256");
	let size = 0;
	for await (const chunk of chunks) {
		digest.update(chunk);
		size += chunk.length;
	}
	return { sha256: digest.digest("hex"), size };
}

async function all(generator) {
	const out = [];
	for await (const item of generator) out.push(item);
	return out;
}

async function filesBelow(folder) {
	const out = {};
	for (const entry of await readdir(folder, { recursive: true })) {
		const path = join(folder, entry);
		if ((await stat(path)).isFile()) out[relative(folder, path)] = (await sha256(createReadStream(path))).sha256;
	}
	return out;
}

function entry(e) {
	return { path: e.path, type: e.type, size: e.size, oid: e.oid, sha256: e.lfs?.oid ?? null, xet: e.xetHash ?? null,
		commit: e.lastCommit?.id ?? null };
}

async function modelInfo(a) {
	const found = await hub.modelInfo({ ...common, ...a, additionalFields: ["sha", "siblings", "tags"] });
	return { name: found.name, sha: found.sha, private: found.private, gated: found.gated,
		files: found.siblings.map((s) => s.rfilename).sort() };
}

async function listFiles(a) {
	const found = (await all(hub.listFiles({ ...common, ...a }))).filter((e) => e.type === "file");
	return found.map(entry).sort((one, other) => (one.path < other.path ? -1 : 1));
}

async function listCommits(a) {
	return (await all(hub.listCommits({ ...common, ...a }))).map((c) => ({ id: c.oid, title: c.title }));
}

async function pathsInfo(a) {
	return (await hub.pathsInfo({ ...common, ...a })).map(entry);
}

async function fileExists(a) {
	return hub.fileExists({ ...common, ...a });
}

async function repoExists(a) {
	return hub.repoExists({ ...common, ...a });
}

async function fileDownloadInfo(a) {
	const found = await hub.fileDownloadInfo({ ...common, ...a });
	return found && { size: found.size, etag: found.etag, xet: found.xet !== undefined, isOurs: found.url.startsWith(url + "/") };
}

// The blob is lazy for large files: a slice is a range upstream.
async function downloadFile({ slice, ...a }) {
	let blob = await hub.downloadFile({ ...common, ...a });
	if (!blob) return null;
	if (slice) blob = blob.slice(...slice);
	return sha256(blob.stream());
}

async function downloadFileToCacheDir(a) {
	const path = await hub.downloadFileToCacheDir({ ...common, ...a });
	return { path: path.split("/snapshots/")[1], ...(await sha256(createReadStream(path))) };
}

async function snapshotDownload(a) {
	const folder = await hub.snapshotDownload({ ...common, ...a });
	return { commit: folder.split("/").pop(), files: await filesBelow(folder) };
}

async function safetensors(a) {
	const found = await hub.parseSafetensorsMetadata({ ...common, ...a });
	return { sharded: found.sharded, tensors: Object.keys(found.sharded ? found.headers : found.header).length };
}

async function whoAmI() {
	const found = await hub.whoAmI(common);
	return { type: found.type, name: found.name };
}

async function createRepo(a) {
	const found = await hub.createRepo({ ...common, ...a });
	return { isOurs: found.repoUrl.startsWith(url + "/"), path: new URL(found.repoUrl).pathname };
}

async function uploadFiles({ files, ...a }) {
	const made = await Promise.all(files.map(async ([path, from]) => ({ path, content: new Blob([await readFile(from)]) })));
	const found = await hub.uploadFiles({ ...common, ...a, files: made });
	return { commit: found.commit.oid, isOurs: found.commit.url.startsWith(url + "/"), hookOutput: typeof found.hookOutput };
}

async function deleteFile(a) {
	return { commit: (await hub.deleteFile({ ...common, ...a })).commit.oid };
}

async function gguf({ path, ...a }) {
	const { gguf: parse } = await import("@huggingface/gguf");
	const found = await parse(url + path, a);
	return { metadata: JSON.parse(JSON.stringify(found.metadata, (_, v) => (typeof v === "bigint" ? Number(v) : v))),
		tensors: found.tensorInfos.map((t) => [t.name, t.shape.map(Number), t.dtype]), offset: Number(found.tensorDataOffset) };
}

async function transformers() {
	const found = await import("@huggingface/transformers");
	found.env.remoteHost = url + "/";
	found.env.cacheDir = join(process.env.HOME, "models");
	return found;
}

async function tokenize({ repo, sentences, ...a }) {
	const { AutoTokenizer } = await transformers();
	const tokenizer = await AutoTokenizer.from_pretrained(repo, a);
	return sentences.map((s) => tokenizer.encode(s));
}

async function embed({ repo, sentences, ...a }) {
	const { pipeline } = await transformers();
	const run = await pipeline("feature-extraction", repo, { dtype: "fp32", ...a });
	const out = [];
	for (const sentence of sentences) out.push(Array.from((await run(sentence, { pooling: "mean", normalize: true })).data));
	return out;
}

const calls = { modelInfo, listFiles, listCommits, pathsInfo, fileExists, repoExists, fileDownloadInfo, downloadFile,
	downloadFileToCacheDir, snapshotDownload, safetensors, whoAmI, createRepo, uploadFiles, deleteFile, gguf, tokenize, embed };

const results = [];
for (const [name, a] of JSON.parse(process.argv[2])) {
	try {
		results.push({ value: await calls[name](a) });
	} catch (trouble) {
		results.push({ error: trouble.constructor.name, message: String(trouble), status: trouble.statusCode ?? null });
	}
}
console.log(JSON.stringify(results));
