"""What a run found in the cache, from its record."""

import json

from driven import drive

from heal_lib import notebooks
from heal_lib.provenance import work_found


def notebook(**stages):
    """stages: {name: {key: (what, seconds)}}, as a run records them."""
    return {"stages": {name: {"made": sum(what == "made" for what, _ in keys.values()), "keys": keys,
                              "seconds_to_make": sum(seconds for _, seconds in keys.values())}
                       for name, keys in stages.items()}}


def test_stages_of_one_name_are_each_counted_and_none_twice():
    record = {"02": notebook(pool={"a": ("reused", 10.0)}, repairs={"c": ("reused", 3.0), "d": ("reused", 4.0)}),
              "03": notebook(pool={"a": ("reused", 10.0), "b": ("reused", 1.0)}),
              "04": notebook(pool={"b": ("reused", 1.0)})}
    assert work_found(record) == 10 + 1 + 3 + 4


def test_what_a_notebook_made_was_not_found_though_another_of_its_name_was():
    record = {"02": notebook(pool={"a": ("made", 10.0), "b": ("reused", 1.0)}),
              "03": notebook(pool={"a": ("reused", 10.0)})}
    assert work_found(record) == 1


def test_a_record_without_keys_counts_by_name():
    found, made = ({"made": n, "reused": 1, "seconds_to_make": 5.0} for n in (0, 1))
    assert work_found({"02": {"stages": {"pool": found, "hinted": made}}, "03": {"stages": {"hinted": found}}}) == 5


def test_a_run_records_what_it_found_and_made_by_key(project, executed, monkeypatch):
    events, noted = [("reused", "pool", "a", 2.0), ("made", "pool", "b", 3.0), ("reused", "pool", "b", 3.0)], executed
    execute = notebooks.execute

    def with_events(path, folder, parameters, environment):
        execute(path, folder, parameters, environment)
        with open(environment["HEAL_EVENTS"], "w") as log:
            log.writelines(json.dumps(event) + "\n" for event in events)

    monkeypatch.setattr(notebooks, "execute", with_events)
    assert drive("--only", "00") == 0 and len(noted) == 1
    made = json.loads((project / "results" / "s" / "run.json").read_text())["notebooks"]
    assert made["00_tour"]["stages"] == {"pool": {"made": 1, "reused": 2, "seconds_to_make": 5.0, "keys": {
        "a": ["reused", 2.0], "b": ["made", 3.0]}}}
    assert work_found(made) == 2
