"""Which comparisons are corrected together."""

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
