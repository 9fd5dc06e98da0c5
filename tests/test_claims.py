"""Which comparisons are corrected together, which row a claim rests on, and what is said of each part."""

import pandas as pd
import pytest

from heal_lib import baselines, claims


def test_no_variant_of_a_part_is_corrected_alone():
    for part, members in (("GEAR", baselines.CUTS), ("PURE", baselines.FILTERS), ("PACE", baselines.ORDERS)):
        variants = claims.FAMILIES[f"variants of {part}"]
        assert len(variants) > 1 and set(members) - {"heal"} <= {*claims.FAMILIES[part], *variants}
    alone = {name for name in baselines.ABLATIONS[1:] if len(claims.family("heal", name)) == 1}
    assert alone == {"heal-no-pace"}  # the one comparison that its part's claim rests on


def test_a_comparison_is_of_one_family():
    every = [name for members in claims.FAMILIES.values() for name in members]
    assert len(every) == len(set(every))


def test_variants_cost_the_primary_claims_nothing():
    names = ["heal-no-pure", "heal-nll", "heal-random-drop", "heal-entropy", "heal-regex"]
    table = pd.DataFrame([["heal", name, claims.JUDGE, 0.01] for name in names],
                         columns=["method", "against", "benchmark", "p"])
    assert claims.corrected(table).tolist() == pytest.approx([0.02, 0.02, 0.03, 0.03, 0.03])


@pytest.mark.parametrize(("none", "random", "start", "words"), [
    ("shown", "shown", "shown", "**GEAR** helps on the hard benchmarks together: better than"),
    ("shown", "not shown", "shown", "**GEAR** is not shown to help on the hard benchmarks together: better than hints "
     "without repairs, a cut at a fixed step, another trajectory's cut or a hint at the start; not told apart from a "
     "random cut"),
    ("contradicted", "shown", "not shown", "**GEAR** falls behind on"),
    ("shown", None, None, "**GEAR** helps against what was compared on"), (None, None, None, "was not measured"),
    ("suggested", None, None, "is not shown to help on the hard benchmarks together: perhaps better than")])
def test_a_part_claims_only_what_its_controls_allow(none, random, start, words):
    told = {"heal-no-gear": none, "heal-random-cut": random, "heal-fixed-cut": none, "heal-permuted-cut": none,
            "heal-start-cut": start}
    assert words in claims.part_sentence("GEAR", {(name, claims.POOLED): how for name, how in told.items() if how})


def test_gear_is_judged_where_positions_matter_and_the_other_parts_there_too():
    old, new = ({(name, where): "shown" for name in ("heal-no-gear", "heal-no-pure")}
                for where in ("w-hard", claims.JUDGE))
    pooled = {("heal-no-gear", claims.POOLED): "contradicted", ("heal-no-pure", claims.POOLED): "not shown"}
    assert "**GEAR** falls behind on the hard benchmarks together" in claims.part_sentences("GEAR", old | pooled)[0]
    (said,) = claims.part_sentences("GEAR", new | pooled)
    assert "behind" not in said and "registers-hard" in said
    here, together = claims.part_sentences("PURE", new | pooled)
    assert "registers-hard" in here and "is not shown to help on the hard benchmarks together" in together


def test_where_controls_were_not_trained_a_part_does_not_help_as_a_whole():
    names = [name for name, _ in claims.PARTS["GEAR"]]
    found = {(name, claims.JUDGE): "not shown" for name in names} | {(names[0], claims.ELSEWHERE): "shown"}
    here, elsewhere = claims.part_sentences("GEAR", found)
    assert "is not shown to help on registers-hard" in here
    assert elsewhere == (
        "**GEAR** helps against what was compared on the hard benchmarks but registers-hard together: better than "
        "hints without repairs; not compared with a random cut, a cut at a fixed step, another trajectory's cut or a "
        "hint at the start there.")


def test_where_else_a_part_was_told_apart_from_nothing_is_said_whichever_way():
    found = {("heal-no-gear", claims.JUDGE): "not shown", ("heal-no-gear", "a-easy"): "contradicted, before correction",
             ("heal-no-gear", "b-hard"): "contradicted, before correction", ("heal-no-gear", "c"): "shown",
             ("heal-no-gear", "d"): "not shown", ("heal-start-cut", "e"): "shown"}
    assert claims.part_sentences("GEAR", found)[1:] == [
        "On single other benchmarks: better than hints without repairs on c; perhaps worse than hints without repairs "
        "on a-easy and b-hard (not after Holm's correction)."]
    assert len(claims.part_sentences("GEAR", {("heal-no-gear", claims.POOLED): "shown"})) == 1


def test_a_claim_about_another_method_rests_on_that_method_s_row():
    table = pd.DataFrame([["heal", "teacher", claims.POOLED, 0.1], ["sft-rs", "teacher", claims.POOLED, -0.2]],
                         columns=["method", "against", "benchmark", "difference"])
    for method, difference in (("heal", 0.1), ("sft-rs", -0.2)):
        claim = claims.Claim("passes the teacher", "main_pairs", ("teacher",), method=method)
        assert claims.strongest(claim, table)["difference"].tolist() == [difference]


def test_the_benchmark_that_judges_is_corrected_apart():
    table = pd.DataFrame([["heal", against, where, 0.01] for against in ("heal-no-gear", "heal-start-cut")
                          for where in (claims.POOLED, claims.JUDGE, "a", "b")],
                         columns=["method", "against", "benchmark", "p"])
    corrected = table.assign(p=claims.corrected(table)).groupby("benchmark")["p"].max()
    assert corrected.to_dict() == pytest.approx({claims.POOLED: 0.02, claims.JUDGE: 0.02, "a": 0.04, "b": 0.04})
