// SPDX-License-Identifier: Apache-2.0
//! What programs on hf-hub 1.x do. This client reads no variable for its address, so the program gives it HUB.
//!
//!   hub1 '[["download", {"repo": "acme/pub", "revision": "main", "file": "config.json"}]]'
//!
//! The last line of the output is JSON: a list of {"value": ...} or {"error": text}. A file's value is where it was put.
use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClient, HFClientSync, HFResult};
use serde_json::{json, Value};

fn entry(e: &RepoTreeEntry) -> Value {
	match e {
		RepoTreeEntry::File { oid, size, path, xet_hash, .. } => json!({ "path": path, "oid": oid, "size": size, "xet": xet_hash }),
		RepoTreeEntry::Directory { oid, path, .. } => json!({ "path": path, "oid": oid }),
	}
}

fn call(client: &HFClientSync, name: &str, a: &Value) -> HFResult<Value> {
	let id = a["repo"].as_str().expect("repo");
	let (owner, short) = id.split_once('/').expect("owner/name");
	let repo = client.model(owner, short);
	let revision = a["revision"].as_str().map(str::to_string);
	let file = a["file"].as_str().unwrap_or_default().to_string();
	Ok(match name {
		"download" => json!(repo.download_file().filename(file).maybe_revision(revision).send()?),
		"download_range" => {
			let (begin, end) = (a["range"][0].as_u64().expect("begin"), a["range"][1].as_u64().expect("end"));
			let bytes = repo.download_file_to_bytes().filename(file).maybe_revision(revision).range(begin..end).send()?;
			json!(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
		}
		"snapshot" => json!(repo.snapshot_download().maybe_revision(revision).send()?),
		"info" => {
			let found = repo.info().maybe_revision(revision).send()?;
			json!({ "id": found.id, "sha": found.sha, "private": found.private })
		}
		"list" => json!(repo.list_tree().maybe_revision(revision).recursive(true).send()?.iter().map(entry).collect::<Vec<_>>()),
		"paths_info" => {
			let paths = vec![file];
			json!(repo.get_paths_info().paths(paths).maybe_revision(revision).send()?.iter().map(entry).collect::<Vec<_>>())
		}
		"metadata" => {
			let found = repo.get_file_metadata().filepath(file).maybe_revision(revision.as_deref()).send()?;
			json!({ "etag": found.etag, "commit": found.commit_hash, "size": found.file_size, "xet": found.xet_hash })
		}
		"commits" => json!(repo.list_commits().maybe_revision(revision).send()?.iter().map(|c| c.id.clone()).collect::<Vec<_>>()),
		"refs" => json!(repo.list_refs().send()?.branches.iter().map(|b| b.target_commit.clone()).collect::<Vec<_>>()),
		"exists" => json!([repo.exists().send()?, repo.revision_exists().revision("main").send()?,
			repo.file_exists().filename(&file).maybe_revision(revision.as_deref()).send()?]),
		_ => panic!("no such call: {name}"),
	})
}

fn main() {
	let wanted: Value = serde_json::from_str(&std::env::args().nth(1).expect("one argument")).expect("JSON");
	let mut builder = HFClient::builder().endpoint(std::env::var("HUB").expect("HUB"));
	if let Ok(token) = std::env::var("TOKEN") {
		builder = builder.token(token);
	}
	let client = builder.build_sync().expect("a client");
	let mut results = Vec::new();
	for each in wanted.as_array().expect("a list") {
		results.push(match call(&client, each[0].as_str().expect("a name"), &each[1]) {
			Ok(value) => json!({ "value": value }),
			Err(error) => json!({ "error": error.to_string() }),
		});
	}
	println!("{}", Value::from(results));
}
