# SPDX-License-Identifier: Apache-2.0
"""Who may read what, as real clients see it: the same exceptions as from the Hub, before and after others filled the cache (P4)."""
import time

from facts import commit_of
from machine import files_below, truth

FILE = {"repo_id": "acme/gated", "filename": "model.safetensors"}


def test_a_gated_repository_is_for_those_the_hub_let_in(machine, hub, people):
    granted = machine(token=people.alice)
    assert granted.call("snapshot", repo_id="acme/gated")["files"] == truth(hub, "acme/gated")
    for token in (people.bob, None, people.nobody):
        user = machine(token=token)
        assert "GatedRepoError" in user.error_of("download", **FILE), token
        assert not files_below(user.home / ".cache/huggingface/hub"), "something of the repository was left"
        assert "GatedRepoError" in user.error_of("snapshot", repo_id="acme/gated", local_dir=str(user.home / "here"))
    assert granted.call("snapshot", repo_id="acme/gated")["files"] == truth(hub, "acme/gated")


def test_a_refusal_before_the_cache_holds_anything(machine, hub, people):
    user = machine(token=people.bob)
    assert "GatedRepoError" in user.error_of("download", **FILE)
    assert "acme/gated" in user.message and "restricted" in user.message
    assert machine(token=people.alice).call("download", **FILE)["sha256"] == truth(hub, "acme/gated")["model.safetensors"]
    assert hub.body_bytes("cdn") <= 1 << 20


def test_information_about_a_gated_repository_is_public(machine, hub):
    assert machine().call("info", repo_id="acme/gated")["sha"] == commit_of(hub, "acme/gated").id


def test_a_private_repository_looks_missing(machine, hub, people):
    granted = machine(token=people.alice)
    assert granted.call("snapshot", repo_id="acme/private")["files"] == truth(hub, "acme/private")
    assert granted.call("info", repo_id="acme/private")["private"] is True
    commit = commit_of(hub, "acme/private").id
    wanted = [("info", {}), ("tree", {}), ("refs", {}), ("snapshot", {}), ("snapshot", {"revision": commit}),
              ("download", {"filename": "config.json"}), ("download", {"filename": "config.json", "revision": commit}),
              ("paths_info", {"paths": ["config.json"]})]
    for token in (people.bob, None):
        user = machine(token=token)
        results = user.try_several([(name, {"repo_id": "acme/private"} | arguments) for name, arguments in wanted])
        for call, result in zip(wanted, results, strict=True):
            assert "RepositoryNotFoundError" in result.get("error", []), f"{call}: {str(result)[:300]}"
        private, missing = user.try_several([("info", {"repo_id": f"acme/{name}"}) for name in ("private", "missing")])
        assert private["error"] == missing["error"]


def test_a_token_that_lost_its_right_reads_nothing_more(machine, hub, start, people):
    daemon = start(hub_grant_ttl="1s", hub_deny_ttl="1s")
    user = machine(to=daemon, token=people.alice)
    assert user.call("download", **FILE)["sha256"] == truth(hub, "acme/gated")["model.safetensors"]
    hub.content.tokens[people.alice].grants.clear()
    time.sleep(1.2)
    other = machine(to=daemon, token=people.alice)
    assert "GatedRepoError" in other.error_of("download", **FILE)


def test_a_disabled_repository_is_refused(machine):
    user = machine()
    names = user.error_of("download", repo_id="acme/disabled", filename="config.json")
    assert "HfHubHTTPError" in names or "LocalEntryNotFoundError" in names, user.message
