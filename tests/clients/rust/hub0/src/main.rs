// SPDX-License-Identifier: Apache-2.0
//! What programs on hf-hub 0.x do: HF_ENDPOINT by from_env(), the blocking client and the one that fetches pieces in parallel.
//!
//!   hub0 '[["get", {"repo": "acme/pub", "revision": "main", "file": "config.json"}]]'
//!
//! The last line of the output is JSON: a list of {"value": ...} or {"error": text}. A file's value is where it was put.
use hf_hub::api::{sync, tokio as parallel};
use hf_hub::{Repo, RepoType};
use serde_json::{json, Value};

type Outcome = Result<Value, String>;

fn text(a: &Value, name: &str) -> String {
	a[name].as_str().unwrap_or_default().to_string()
}

fn repo(a: &Value) -> Repo {
	let kind = match text(a, "kind").as_str() {
		"dataset" => RepoType::Dataset,
		"space" => RepoType::Space,
		_ => RepoType::Model,
	};
	match a["revision"].as_str() {
		Some(revision) => Repo::with_revision(text(a, "repo"), kind, revision.to_string()),
		None => Repo::new(text(a, "repo"), kind),
	}
}

fn blocking(name: &str, a: &Value) -> Outcome {
	let api = sync::ApiBuilder::from_env().with_progress(false).build().map_err(|e| e.to_string())?;
	let repo = api.repo(repo(a));
	if name == "info" {
		let found = repo.info().map_err(|e| e.to_string())?;
		let files: Vec<_> = found.siblings.iter().map(|s| s.rfilename.clone()).collect();
		return Ok(json!({ "sha": found.sha, "files": files }));
	}
	repo.get(&text(a, "file")).map(|path| json!(path)).map_err(|e| e.to_string())
}

async fn in_pieces(a: &Value) -> Outcome {
	let api = parallel::ApiBuilder::from_env().with_progress(false).high();
	let api = api.with_chunk_size(Some(1_000_000)).build().map_err(|e| e.to_string())?;
	let repo = api.repo(repo(a));
	repo.get(&text(a, "file")).await.map(|path| json!(path)).map_err(|e| e.to_string())
}

fn main() {
	let wanted: Value = serde_json::from_str(&std::env::args().nth(1).expect("one argument")).expect("JSON");
	let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
	let mut results = Vec::new();
	for call in wanted.as_array().expect("a list") {
		let name = call[0].as_str().expect("a name");
		let outcome = if name == "get_in_pieces" { runtime.block_on(in_pieces(&call[1])) } else { blocking(name, &call[1]) };
		results.push(match outcome {
			Ok(value) => json!({ "value": value }),
			Err(error) => json!({ "error": error }),
		});
	}
	println!("{}", Value::from(results));
}
