"""Hand-computed cases for the readings of PURE, and for how well they tell spurious rows."""

import numpy as np
import pytest

from heal_lib import detection, pure, stats, unlabelled


def test_bootstrap_auroc_equals_the_plain_one_also_with_ties():
    rng = np.random.default_rng(0)
    scores, labels, problems = rng.integers(0, 6, 120), rng.integers(0, 2, 120), rng.integers(0, 15, 120)
    value, low, high = detection.bootstrap_auroc(scores, labels, problems, n_boot=300)
    assert value == stats.auroc(scores, labels) and low < value < high


def test_bootstrap_auroc_resamples_whole_problems():
    scores, labels, problems = [3.0, 1, 2, 2, 1, 4], [1, 0, 1, 0, 1, 0], list("aabbcc")
    _, low, high = detection.bootstrap_auroc(scores, labels, problems, n_boot=400, seed=5)
    rng, drawn = np.random.default_rng(5), []
    for w in rng.multinomial(3, [1 / 3] * 3, 400):
        rows = [i for g, k in zip("abc", w, strict=True) for i in range(6) if problems[i] == g for _ in range(k)]
        drawn.append(stats.auroc(np.take(scores, rows), np.take(labels, rows)))
    assert np.allclose([low, high], np.quantile(drawn, [0.025, 0.975]))


def test_an_auroc_without_a_pair_in_the_wrong_order_has_the_exact_interval():
    reach = 1 - 0.025 ** (1 / 3)  # of three problems
    scores, problems = [1, 2, 3, 4], list("abbc")
    assert detection.bootstrap_auroc(scores, [0, 0, 1, 1], problems) == pytest.approx((1, 1 - reach, 1))
    assert detection.bootstrap_auroc(scores, [1, 1, 0, 0], problems) == pytest.approx((0, 0, reach))


def test_bootstrap_auroc_of_one_class_is_nan():
    assert np.isnan(detection.bootstrap_auroc([1, 2], [1, 1], ["a", "b"])).all()


def _minus_nll(scores, nll, labels, problems, **more):
    """(value, low, high) of a score beside mean NLL."""
    both, problems = {"s": np.array(scores, float), "mean NLL": np.array(nll, float)}, list(problems)
    line, itself = detection.detection_table(both, labels, problems, problems, **more)
    assert itself["minus_nll"] == itself["minus_nll_low"] == itself["minus_nll_high"] == 0 or np.isnan(itself["auroc"])
    return tuple(line[f"minus_nll{end}"] for end in ("", "_low", "_high"))


def test_the_difference_to_mean_nll_by_hand():
    """Mean NLL is right within both problems and ties once between them; the other score is right within a alone."""
    labels, nll, score = [1, 0, 1, 0], [2, 1, 3, 2], [2, 1, 1, 2]
    value, low, high = _minus_nll(score, nll, labels, "aabb", n_boot=500)
    assert value == 0.5 - 0.875  # resamples aa, ab and bb: 1 - 1, 0.5 - 0.875 and 0 - 1
    assert (low, high) == (-1, 0)


def test_the_difference_is_of_the_same_resamples():
    rng = np.random.default_rng(3)
    labels, problems, nll = rng.integers(0, 2, 60), rng.integers(0, 4, 60), rng.random(60)
    score = nll + rng.random(60)
    value, low, high = _minus_nll(score, nll, labels, problems, n_boot=300)
    drawn, rows = [], [np.flatnonzero(problems == g) for g in range(4)]
    for w in np.random.default_rng(0).multinomial(4, [1 / 4] * 4, 300):
        i = np.concatenate([np.repeat(rows[g], w[g]) for g in range(4)])
        drawn.append(stats.auroc(score[i], labels[i]) - stats.auroc(nll[i], labels[i]))
    assert value == stats.auroc(score, labels) - stats.auroc(nll, labels)
    assert np.allclose([low, high], np.quantile(drawn, [0.025, 0.975]))


def test_scores_in_one_order_differ_by_nothing_however_wide_their_own_intervals():
    labels, nll = [1, 0, 1, 0], np.array([2, 1, 2, 3])
    assert detection.bootstrap_auroc(nll, labels, list("aabb"))[1:] == (0, 1)
    for same in (nll, 2 * nll):
        assert _minus_nll(same, nll, labels, "aabb") == (0, 0, 0)
    assert _minus_nll([4, 3, 2, 1], [4, 3, 2, 1], [1, 1, 0, 0], "aabb") == (0, 0, 0)


def test_the_difference_to_or_of_a_perfect_score_has_the_width_of_the_exact_intervals():
    reach, problems, labels = 1 - 0.025 ** (1 / 3), "abbc", [0, 0, 1, 1]  # of three problems
    best, worst, other = [1, 2, 3, 4], [4, 3, 2, 1], [1, 2, 3, 9]
    assert _minus_nll(best, other, labels, problems) == pytest.approx((0, -reach, reach))
    assert _minus_nll(best, worst, labels, problems) == pytest.approx((1, 1 - np.hypot(reach, reach), 1))
    assert _minus_nll(worst, best, labels, problems) == pytest.approx((-1, -1, np.hypot(reach, reach) - 1))
    value, low, high = detection.bootstrap_auroc([1, 4, 3, 5], labels, list(problems))
    assert _minus_nll(best, [1, 4, 3, 5], labels, problems) == pytest.approx(
        (1 - value, 1 - value - np.hypot(reach, high - value), 1 - low))


def test_without_two_classes_or_without_mean_nll_there_is_no_difference():
    assert np.isnan(_minus_nll([1, 2, 3], [1, 3, 2], [1, 1, 1], "abc")).all()
    (line,) = detection.detection_table({"s": np.array([1.0, 2])}, [0, 1], ["a", "b"], ["a", "b"], n_boot=20)
    assert line["auroc"] == 1 and np.isnan([line[f"minus_nll{end}"] for end in ("", "_low", "_high")]).all()


def _reading(ppl, u, nll=(0.5,)):
    return {"ppl": list(ppl), "uncertainty": list(u), "nll": list(nll), "n_steps": len(ppl), "entropy": 0.5,
            "self_certainty": 2.0}


def _row(text, **more):
    return {"problem_id": "p", "world": "equations", "difficulty": "hard", "question": "equation x+2=9", "answer": "7",
            "text": text, **more}


def test_anomaly_scores_put_the_forced_answer_on_top():
    rows = [{"token_ids": [1] * n, "genuine": int(n == 2), "world": "paths", "text": text}
            for n, text in ((2, "into B: A>B"), (1, "guess AB"), (3, "from A: A>B"))]
    readings = [_reading([1.1, 1.1], [4, 3, 2]), _reading([], [4]), _reading([1.1, 9], [4, 0.01, 0.01])]
    scores = detection.anomaly_scores(rows, readings)
    assert set(scores) == set(detection.ALL_READINGS)
    mean = scores["ratio mean, U before"]
    assert mean[1] == 1e30 and mean[0] < mean[2]  # no step but the answer: all assertion
    assert scores["ratio max, U after"][2] == pytest.approx(9 / 0.02)
    assert scores["length"].tolist() == [2, 1, 3] and scores["max step PPL"].tolist() == [1.1, 1, 9]
    assert scores[detection.LOOK].tolist() == [0, 1, 0]
    assert scores["oracle"].tolist() == [0, 1, 1] and scores["self-certainty"].tolist() == [-2] * 3
    assert scores["min-token probability"][0] == pytest.approx(-np.exp(-0.5)) and scores["pure+"][1] == 1e30
    assert scores["certainty before"].tolist() == [-3.5, 0, pytest.approx(-2.005)]


def test_detection_table_by_hand():
    scores = {"good": np.array([9.0, 1, 2, 3, 4]), "bad": np.array([0.0, 1, 2, 3, 4])}
    good, bad = detection.detection_table(scores, [1, 0, 0, 0, 0], list("abcde"), ["one"] * 5, lam=0.2, n_boot=50)
    assert (good["auroc"], good["kept"], good["genuine_kept"], good["kept_genuine"]) == (1, 0.8, 1, 1)
    assert (bad["auroc"], bad["genuine_kept"], bad["kept_genuine"], bad["genuine_before"]) == (0, 0.75, 0.75, 0.8)


def test_a_threshold_is_of_one_reading_and_the_others_drop_as_many():
    scores = {"length": np.array([40.0, 10, 20, 30, 50]), "ratio": np.array([9.0, 0.1, 7, 0.3, 5])}
    table = detection.detection_table(scores, [1, 0, 1, 0, 0], list("abcde"), list("abcde"), lam=5.0, rule="threshold",
                                     reading="ratio", n_boot=50)
    assert [(line["kept"], line["genuine_kept"]) for line in table] == [(0.6, pytest.approx(2 / 3)), (0.6, 1)]


def test_frozen_thresholds_keep_the_share_of_the_genuine_they_were_set_for():
    score, labels = np.array([1.0, 2, 3, 4, 9]), [0, 0, 0, 0, 1]
    limits = detection.thresholds({"s": score}, labels, 0.75)
    assert limits == {"s": 4}  # the smallest score that keeps three quarters or more
    (line,) = detection.detection_table({"s": score}, labels, list("abcde"), list("abcde"), limits=limits, n_boot=50)
    assert (line["threshold_kept"], line["threshold_genuine_kept"], line["threshold_kept_genuine"]) == (0.8, 1, 1)
    nothing = detection.thresholds({"s": score}, [1] * 5)
    (line,) = detection.detection_table({"s": score}, labels, list("abcde"), list("abcde"), limits=nothing, n_boot=50)
    assert np.isnan([line["threshold"], line["threshold_kept"]]).all()


@pytest.mark.parametrize("text, kind", [
    ("9-2=7\n\n\\boxed{7}", "genuine"), ("try 7\n\n7+2=9\n\n9=9\n\n\\boxed{7}", "asserted"),
    ("try 7\n\n7+2=8\n\n\\boxed{7}", "false step")])
def test_kinds_of_spuriousness(text, kind):
    assert detection.kind(_row(text)) == kind


PROGRAM = ["A: 5+3=8", "A: 8*2=16", "A: 16k4 even *", "A: 16*4=64", "\\boxed{A=64}"]


@pytest.mark.parametrize("kind, steps", [
    ("genuine", PROGRAM), ("false step", [*PROGRAM[:2], "A: 16k4 even +", "A: 16+4=64", PROGRAM[-1]]),
    ("false step", [PROGRAM[0], "A: 8*2=60", "A: 60k4 even +", "A: 60+4=64", PROGRAM[-1]]),
    ("uncalled step", [*PROGRAM[:2], "A: 16k4 even *", "A: 16*4=64", "A: 64+1=65", "A: 65-1=64", PROGRAM[-1]]),
    ("uncalled step", [*PROGRAM[:4], "A: 64+1=64", PROGRAM[-1]])])
def test_kinds_of_spuriousness_in_programs(kind, steps):
    row = {**_row("\n\n".join(steps)), "world": "registers", "question": "program A=5+3*2k4", "answer": "A=64"}
    assert detection.kind(row) == kind


def test_each_kind_is_held_against_the_genuine_alone():
    kinds = ["genuine", "genuine", "asserted", "false step"]
    asserted, false, uncalled = detection.by_kind({"s": np.array([2.0, 3, 9, 1])}, kinds, list("abcd"), n_boot=50)
    assert (asserted["kind"], asserted["auroc"], asserted["n"]) == ("asserted", 1, 1) and false["auroc"] == 0
    assert uncalled["n"] == 0 and np.isnan(uncalled["auroc"])


def test_forms_by_hand():
    reading = _reading([np.e, 1], [0.5, 1, 0])
    assert detection.form([reading], "ppl", 0.5, "before") == pytest.approx([(np.e + 1 / 1.5) / 2])
    assert detection.form([reading], "nll", 1, "after") == pytest.approx([0.25])
    assert detection.form([reading], "nll", 1, "after") == pytest.approx([pure.anomaly_plus(reading)])
    assert detection.most_surprising(reading) == {"ppl": np.e, "u_before": 0.5, "u_after": 1}
    assert detection.form([_reading([], [1])]).tolist() == [1e30]
    assert detection.candidates([reading])[detection.PLUS_FORM] == pytest.approx([0.25])


def test_a_small_eps_lets_certainty_decide_and_a_large_one_surprise():
    rng = np.random.default_rng(0)
    readings = [_reading(rng.uniform(1, 9, 4), rng.exponential(1, 5)) for _ in range(60)]
    small, large = (detection.follows(readings, "ppl", eps) for eps in (1e-3, 1e3))
    assert small["certainty"] > 0.7 > small["surprise"] and large["surprise"] > 0.99
    assert np.isnan(list(detection.follows(readings[:1]).values())).all()


def test_readings_are_judged_with_labels_and_by_what_the_teacher_writes_unprompted():
    def row(source, genuine, problem):
        return {**_row("9-2=7\n\n\\boxed{7}"), "source": source, "genuine": genuine, "problem_id": problem,
                "token_ids": [1]}

    rows = [row("sampled", 1, "p"), row("hinted", 1, "p"), row("hinted", 0, "p"), row("repaired", 0, "q")]
    read = [_reading([2.0], [5, 5]), _reading([2.0], [5, 4]), _reading([9.0], [5, 0]), _reading([2.0], [5, 5])]
    ratio, length = unlabelled.judged(rows, read, ("ratio mean, U after", "length"), n_boot=50)
    assert (ratio["auroc"], ratio["bare_auroc"], ratio["n_hinted"], ratio["n_bare"]) == (0.5, 1, 3, 1)
    assert (length["auroc"], length["bare_auroc"], length["bare_genuine"]) == (0.5, 0.5, 1)  # q has nothing unprompted
    assert (ratio["u_first"], ratio["u_most"], ratio["u_last"]) == (5, 5, 4)
    (nothing,) = unlabelled.judged([], [], ("length",), n_boot=50)
    assert np.isnan([nothing["auroc"], nothing["bare_auroc"], nothing["u_most"]]).all()
