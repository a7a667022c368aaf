# SPDX-License-Identifier: Apache-2.0
"""The table of docs/clients.md: of the versions that are pinned, and made from results as it should be."""
import support


def test_the_table_names_the_versions_that_are_pinned():
    text, pins = support.DOCUMENT.read_text(), support.pins()
    told = support.versions_in(text)
    assert told, "the table is empty"
    for client, versions in told.items():
        wanted = pins.get("huggingface_hub" if client == "hf" else client)
        assert not wanted or versions <= wanted, f"{client}: the table names {sorted(versions)}, pinned are {sorted(wanted)}"


def test_every_client_that_people_use_is_in_the_table():
    told = support.versions_in(support.DOCUMENT.read_text())
    assert told["huggingface_hub"] == support.pins()["huggingface_hub"]
    for client in ("datasets", "transformers", "pandas", "polars", "pyarrow", "duckdb", "hf"):
        assert client in told, client


def test_clients_that_could_not_run_are_not_missed():
    table = support.HEAD + "| a | 1 | x | yes | yes | yes |  |\n| b | 1 | x | yes | yes | yes |  |\n"
    assert support.without_absent(table, [{"client": "a"}]) == support.HEAD + "| a | 1 | x | yes | yes | yes |  |\n"


def rows(what, version="1.0", note="", **phases):
    return [{"client": "c", "version": version, "what": what, "phase": phase, "result": result, "note": note}
            for phase, result in phases.items()]


def test_results_become_lines():
    ok = {"cold": "passed", "warm": "passed", "dead": "passed", "restarted": "passed"}
    found = support.lines_of(
        rows("a", **ok) + rows("a at a commit", **ok) + rows("a", "0.9", **ok) + rows("a at a commit", "0.9", **ok)
        + rows("b", **ok | {"restarted": "failed"}) + rows("c", note="only so", cold="passed")
        + rows("d at a commit", **ok) + rows("e", **ok) + rows("e", **ok | {"warm": "failed"}))
    assert found == ["| c | 1.0, 0.9 | a; branch and commit | yes | yes | yes |  |\n", "| c | 1.0 | b | yes | yes | no |  |\n",
                     "| c | 1.0 | c | yes |  |  | only so |\n", "| c | 1.0 | d at a commit | yes | yes | yes |  |\n",
                     "| c | 1.0 | e | yes | no | yes |  |\n"]
