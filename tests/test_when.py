"""What a sweep says: verdicts, all teachers together, sentences, maps; from tables alone."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import seaborn as sns

from heal_lib import plots, when
from heal_lib.plots import maps


def asked(lows, question="PURE", student=when.SHIPPED, p=0.01, other_rows=0.3):
    """Rows of a question: a cell for each (hinted, unprompted, low end of an interval 0.2 wide)."""
    return pd.DataFrame([{
        "question": question, "against": when.QUESTIONS[question], "derive_hinted": h, "derive_unprompted": u,
        "student": student, "parameters": 1000 * (1 + n), "other_rows": other_rows, "difference": low + 0.1,
        "ci_low": low, "ci_high": low + 0.2, "p": p, "p_holm": float("nan")} for n, (h, u, low) in enumerate(lows)])


GRID_OF = [(h, u) for h in (0.25, 0.5, 0.75) for u in (0.003, 0.03)]


def test_verdicts_are_corrected_within_a_question_alone():
    one, six = asked([(0.5, 0.03, 0.1)], "HEAL"), asked([(*at, 0.1) for at in GRID_OF])
    table = when.judged(pd.concat([one, six, asked([(0.5, 0.03, -0.1)], "GEAR")], ignore_index=True))
    assert table["p_holm"].round(9).tolist() == [0.01] + [0.06] * 6 + [0.01]
    assert table["verdict"].tolist() == ["shown"] + ["suggested"] * 6 + ["not shown"]


def test_a_sentence_says_where_a_part_helps_or_that_it_does_nowhere():
    def said(*lows, **more):
        rows = asked([(*at, low) for at, low in zip(GRID_OF, lows, strict=True)], p=0.001, **more)
        found, end = when.sentences(when.judged(rows))[0], " (median half-width 10.0 points)."
        assert found.endswith(end)
        return found.removesuffix(end).removeprefix("**PURE** (minus heal-no-pure): ")

    assert said(*[-0.1] * 6, question="GEAR") == (
        "**GEAR** (minus heal-no-gear): shown in none of 6 teachers; not shown in 6")
    assert said(0.1, 0.1, 0.1, -0.1, -0.1, -0.3) == (
        "shown in 3 of 6 teachers, where at most 0.5 of the hinted texts read derive (3 of the 4 there); contradicted "
        "in 1, where 0.75 of the hinted texts read derive and 0.03 of the unhinted texts read derive; not shown in 2")
    some = asked([(*at, -0.1) for at in GRID_OF], other_rows=0.0)
    some.loc[0, "other_rows"] = 0.5
    assert when.sentences(when.judged(some))[0] == (
        "**PURE** (minus heal-no-pure): shown in none of 6 teachers; not shown in 1; not asked in 5, where both are "
        "given the same rows (median half-width 10.0 points).")
    alone = when.sentences(when.judged(some[1:]))[0]
    assert alone.endswith("not asked: in all 5 teachers both are given the same rows.")
    assert "same rows" not in said(*[-0.1] * 6, question="PACE", other_rows=0)
    assert said(*[0.1] * 6) == "shown in 6 of 6 teachers; not shown in none"
    assert "where" not in said(0.1, *[-0.1] * 4, 0.1)  # corners of the map are no region
    assert said(*[-0.1] * 3, *[0.1] * 3, student="base-small") == (
        "shown in 3 of 6 pairs of a teacher and a size, where at least 0.5 of the hinted texts read derive and the "
        "student has at least 4,000 parameters; not shown in 3")


def test_what_guessing_at_each_fork_gives_is_said_where_there_are_forks():
    """Two or three forks of three operations each: a ninth of some problems, a 27th of the others."""
    assert when.guessed("equations", 20) == ""
    share = float(when.guessed("registers", 20).split()[-2])
    assert 100 / 27 <= share <= 100 / 9


def test_what_a_cell_cannot_tell_all_teachers_together_may():
    gains = {(0.25, 0.003): 0, (0.25, 0.03): 0.1, (0.75, 0.003): 0.5, (0.75, 0.03): 0.6}  # a plane: 0.5 up, 0.1 across
    samples = pd.DataFrame([
        {"derive_hinted": h, "derive_unprompted": u, "student": student, "method": m, "seed": seed, "sample": j,
         "benchmark": "equations-hard", "problem_id": f"p{i}", "correct": float(m == "heal" and i < 20 * gain)}
        for (h, u), gain in gains.items() for student in (when.SHIPPED, "base-small")
        for m in ("heal", "sft-rs") for seed in (0, 1) for j in (0, 1) for i in range(20)])
    cells = [asked([(*at, gain - 0.1)], "HEAL") for at, gain in gains.items()]
    sized = asked([(0.25, 0.003, 5.0)], "HEAL", "base-small")  # is of another map
    same = asked([(*at, -0.1) for at in gains], other_rows=0)  # PURE, which gave the same students: nothing to say
    found = when.together(pd.concat([*cells, sized, same], ignore_index=True), samples)
    assert found["question"].tolist() == ["HEAL"] * 3 and found["along"].tolist() == ["all", "derive_hinted",
                                                                                      "derive_unprompted"]
    assert found["difference"].round(6).tolist() == [0.3, 0.5, 0.1]
    assert (found["ci_low"] <= found["difference"]).all() and (found["difference"] <= found["ci_high"]).all()
    assert found["p_holm"].tolist()[0] == found["p"].tolist()[0]  # alone in its family; lines are two
    assert found["p_holm"].tolist()[1] == pytest.approx(2 * found["p"].tolist()[1])
    said = when.sentences(pd.concat([*cells, sized], ignore_index=True).assign(verdict="suggested"), found)
    assert said[0].startswith("**HEAL** (minus sft-rs): over all teachers +30.0 [")
    assert "By teacher: shown in" in said[0] and "all teachers" not in said[1] and when.sentences(cells[0][:0]) == []
    line = found.assign(verdict=["shown", "shown", "not shown"], p_holm=0.01)
    assert "points, shown; it changes by +50.0 [" in when.overall(line)["HEAL"]
    assert "as *derivations in hinted text (share)* goes from 0.25 to 0.75 (after correction)" in when.overall(
        line)["HEAL"]


def test_problems_seeds_and_teachers_each_widen_what_all_teachers_say():
    def found(of_teacher=0.0, of_seed=0.0, of_problem=0.0):
        rows = [{"derive_hinted": h, "derive_unprompted": u, "student": when.SHIPPED, "method": m, "seed": s,
                 "sample": 0, "benchmark": "equations-hard", "problem_id": f"p{i}",
                 "correct": (m == "heal") * (0.1 + of_teacher * (-1) ** t + of_seed * (s - 1) + of_problem * (-1) ** i)}
                for t, (h, u) in enumerate(GRID_OF) for m in ("heal", "sft-rs") for s in (0, 1, 2) for i in range(20)]
        table = asked([(*at, 0.0) for at in GRID_OF], "HEAL")
        whole = when.together(table, pd.DataFrame(rows)).iloc[0]
        assert whole["difference"] == pytest.approx(0.1)
        return whole["ci_high"] - whole["difference"], whole["p"]

    half = {name: found(**{name: 0.05}) for name in ("of_teacher", "of_seed", "of_problem")}
    assert half["of_teacher"][0] == pytest.approx(0.05 * (6 / 5) ** 0.5 / 6 ** 0.5 * 2.5706, rel=1e-3)
    assert half["of_seed"][0] == pytest.approx(0.05 / 3 ** 0.5 * 4.3027, rel=1e-3)
    assert half["of_problem"][0] == pytest.approx(0.05 * (20 / 19) ** 0.5 / 20 ** 0.5 * 2.0930, rel=1e-3)
    assert half["of_seed"][1] > half["of_teacher"][1] > half["of_problem"][1]
    few = when.together(asked([(*at, 0.0) for at in GRID_OF[:2]], "HEAL"), pd.DataFrame(columns=[
        "derive_hinted", "derive_unprompted", "student", "method", "seed", "benchmark", "problem_id", "correct"],
        dtype=object).astype({"benchmark": str}))
    assert not len(few)  # two cells have no spread worth the name


def test_each_question_has_a_panel_and_its_blank_cells_are_hatched():
    lows = {"HEAL": 0.1, "GEAR": -0.1, "PURE": -0.3}
    table = when.judged(pd.concat([asked([(*at, low) for at in GRID_OF], name, p=0.001) for name, low in lows.items()],
                                   ignore_index=True))
    with matplotlib.rc_context():
        plots.style()
        figure = maps.claim_maps(table, "derive_hinted", "derive_unprompted", when.AXES)
        figure.canvas.draw()
        assert all(7 <= text.get_fontsize() <= 9 for text in figure.findobj(matplotlib.text.Text)
                   if text.get_visible() and text.get_text().strip())
        assert figure.get_tightbbox().x1 <= plots.DOUBLE + 0.01
    panels = figure.axes[:3]
    assert [ax.get_title().split("\n")[0] for ax in panels] == [
        "HEAL: shown in 6 of 6", "GEAR: shown in none of 6", "PURE: shown in none of 6"]
    assert [sum(bool(patch.get_hatch()) for patch in ax.patches) for ax in panels] == [0, 6, 0]
    assert [sum(not patch.get_fill() for patch in ax.patches) for ax in panels] == [6, 0, 6]  # shown or contradicted
    assert panels[1].texts[0].get_text() == "+0.0\n[-10.0, +10.0]"
    assert len({ax.collections[0].get_clim() for ax in panels}) == 1
    plt.close(figure)


def test_numbers_stand_out_from_the_colour_of_their_cell_and_large_ones_have_commas():
    lows = dict(zip(GRID_OF, (0.0, 0.1, 0.25, 0.4, -0.5, 0.65), strict=True))
    table = asked([(*at, low) for at, low in lows.items()], "HEAL", p=0.001)
    table["parameters"] = table["derive_unprompted"].rank(method="dense").astype(int) * 1_270_144
    figure = maps.claim_maps(when.judged(table), "derive_hinted", "parameters", when.AXES)
    (ax,) = (each for each in figure.axes if each.texts)
    back = [sns.utils.relative_luminance(colour) + 0.05 for colour in ax.collections[0].get_facecolors()]
    ink = [sns.utils.relative_luminance(text.get_color()) + 0.05 for text in ax.texts]
    assert min(max(a, b) / min(a, b) for a, b in zip(back, ink, strict=True)) > 4  # 4.5 is WCAG's for small text
    assert ax.get_xticklabels()[0].get_text() == "1,270,144"
    plt.close(figure)
