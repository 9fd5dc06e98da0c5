"""What a run found in the cache, from its record."""

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
