"""One SFT path: it learns, only from completions, and the same each time."""

import copy
import shutil

import pytest
import torch

from heal_lib import training
from heal_lib.embedded import models, tokenizer
from heal_lib.errors import HealError
from heal_lib.training import SEAL, TrainConfig, fit

TEXT = ("equation x*3+2=23\n\n", "23-2=21\n\n21/3=7\n\n\\boxed{7}")
CONFIG = TrainConfig(learning_rate=3e-3, batch_size=8)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Checkpoints in a run of a few updates."""
    monkeypatch.setattr(training, "SAVE_EVERY", 1)


@pytest.fixture
def model(words):
    torch.set_num_threads(1)
    return models.new_model("student", words, 0)


def row(words, learn=None):
    """TEXT as a training row; `learn`: positions of the only tokens that are learned (default: the completion)."""
    prompt, rest = (words.encode(part, add_special_tokens=False) for part in TEXT)
    ids = [*prompt, *rest, words.eos_token_id]
    mask = [int(i >= len(prompt)) if learn is None else int(i in learn) for i in range(len(ids))]
    return {"input_ids": ids, "completion_mask": mask}


def nll(model, ids):
    """[T-1] nats of each token after the first."""
    with torch.inference_mode():
        logits = model.eval()(input_ids=torch.tensor([ids])).logits[0]
    return -torch.log_softmax(logits, -1)[range(len(ids) - 1), ids[1:]]


def test_a_short_run_lowers_the_loss(model, words):
    rows = [row(words)] * 80
    log = fit(model, words, rows, CONFIG)
    assert [entry["step"] for entry in log] == list(range(1, 11))
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]


@pytest.mark.parametrize("learn", [None, {20}, {3, 20}, set(range(1, 25))])
def test_the_loss_is_the_mean_over_the_learned_tokens_alone(model, words, learn):
    """Prompts, hints and padding are not learned: the first loss is the untrained model's own, to the digit."""
    one = row(words, learn)
    short = {key: value[:21] for key, value in one.items()}  # shares a batch with `one`, so it is padded
    expected = []
    for each in (one, short):
        learned = [i - 1 for i, m in enumerate(each["completion_mask"]) if m]
        expected += nll(model, each["input_ids"])[learned].tolist()
    log = fit(model, words, [one, short] * 4, CONFIG)
    assert len(one["input_ids"]) == 25 and len(expected) >= 1
    assert log[0]["loss"] == pytest.approx(sum(expected) / len(expected), abs=1e-3)


def test_the_same_seed_gives_the_same_weights(model, words):
    rows = [{**row(words), "input_ids": [*row(words)["input_ids"][:-3], 60 + i, *row(words)["input_ids"][-2:]]}
            for i in range(16)]
    runs = []
    for seed in (1, 1, 2):
        runs.append(copy.deepcopy(model))
        fit(runs[-1], words, rows, TrainConfig(1e-3, 4, seed=seed))
    one, again, other = (list(run.state_dict().values()) for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_run_leaves_no_files(model, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(model, words, [row(words)] * 8, CONFIG)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def with_checkpoints(words, tmp_path_factory):
    """(rows, settings, folder of checkpoints, student, its log) of a run with checkpoints, which is as one without."""
    rows = [{**row(words), "input_ids": row(words)["input_ids"][: 12 + i % 5],
             "completion_mask": row(words)["completion_mask"][: 12 + i % 5]} for i in range(40)]
    folder, config = tmp_path_factory.mktemp("checkpoints"), TrainConfig(1e-3, 4, seed=3)
    plain, first = (models.new_model("student", words, seed) for seed in (1, 1))
    log = fit(plain, words, rows, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY", 1)
        assert fit(first, words, rows, config, checkpoints=str(folder)) == log
    return rows, config, folder, plain, log


@pytest.mark.parametrize("harm", ["none", "cut", "unsealed", "other run", "all"])
def test_a_killed_run_goes_on_to_the_same_bits_and_trusts_no_damaged_checkpoint(with_checkpoints, words, tmp_path,
                                                                                capsys, harm):
    rows, config, folder, plain, log = with_checkpoints
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    second = models.new_model("student", words, 1)
    last, before = (tmp_path / f"checkpoint-{n}" for n in (10, 5))
    assert set(tmp_path.glob("checkpoint-*")) == {last, before}
    if harm in ("cut", "all"):
        weights = (last / "model.safetensors").read_bytes()
        (last / "model.safetensors").write_bytes(weights[:-1])
    if harm in ("unsealed", "all"):
        ((last if harm == "unsealed" else before) / SEAL).unlink()
    capsys.readouterr()
    other = TrainConfig(1e-3, 4, seed=4) if harm == "other run" else config
    again = fit(second, words, rows, other, checkpoints=str(tmp_path))
    said, unused = capsys.readouterr().err, {"none": 0, "other run": 2, "all": 2}.get(harm, 1)
    assert said.count("not used") == unused and (unused == 0 or last.name in said)
    same = [torch.equal(a, b) for a, b in zip(plain.state_dict().values(), second.state_dict().values(), strict=True)]
    losses = [[(entry["step"], entry["loss"]) for entry in part] for part in (log, again)]
    assert all(same) == (losses[0] == losses[1]) == (harm != "other run")


def other(words):
    """A row of the same words in another order: its loss falls while they are learned, and rises with their order."""
    ids = row(words)["input_ids"]
    return {**row(words), "input_ids": [*ids[:10], *ids[:9:-1]]}


def test_early_stopping_keeps_the_weights_of_the_least_loss_on_held_out_rows(model, words):
    held = [other(words)] * 3
    log = fit(model, words, [row(words)] * 240, TrainConfig(3e-2, 8), heldout=held)
    measured = [(entry["step"], entry["eval_loss"]) for entry in log if "eval_loss" in entry]
    learned = [i - 1 for i, m in enumerate(held[0]["completion_mask"]) if m]
    least = min(loss for _, loss in measured)
    assert measured[-1][0] == 30 and least < min(measured[0][1], measured[-1][1])
    assert nll(model, held[0]["input_ids"])[learned].mean() == pytest.approx(least, abs=1e-4)
    assert len([entry for entry in log if "loss" in entry]) == 30


@pytest.fixture(scope="module")
def stopped_early(words, tmp_path_factory):
    """(rows and settings, folder of checkpoints, its copy, student, its log) of a run that is judged; where the best
    are is written in a checkpoint, so that each test has that folder as it was."""
    given, folder = ([row(words)] * 160, TrainConfig(1e-2, 8)), tmp_path_factory.mktemp("judged")
    plain, first = (models.new_model("student", words, 1) for _ in range(2))
    log = fit(plain, words, *given, heldout=[other(words)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY", 1)
        fit(first, words, *given, heldout=[other(words)], checkpoints=str(folder))
    assert all(map(torch.equal, plain.state_dict().values(), first.state_dict().values()))
    shutil.copytree(folder, kept := tmp_path_factory.mktemp("kept"), dirs_exist_ok=True)
    return given, folder, kept, plain, log


@pytest.mark.parametrize("harm", ["killed", "best"])
def test_early_stopping_goes_on_to_the_same_weights(stopped_early, words, capsys, harm):
    given, folder, kept, plain, log = stopped_early
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    second = models.new_model("student", words, 1)
    best, last = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    harmed = last if harm == "killed" else best
    (harmed / SEAL).unlink()  # while it wrote the last, or afterwards
    capsys.readouterr()
    again = fit(second, words, *given, heldout=[other(words)], checkpoints=str(folder))
    assert f"{last.name} is not whole" in capsys.readouterr().err
    assert [e for e in again if "eval_loss" in e][-1]["eval_loss"] == log[-1]["eval_loss"]
    assert all(map(torch.equal, plain.state_dict().values(), second.state_dict().values()))


def test_a_checkpoint_never_parts_the_updates_whose_mean_loss_is_logged(tmp_path):
    for n_rows in (1, 7, 400, 1520, 9999):
        arguments = training._arguments(CONFIG, n_rows, str(tmp_path), True, 1)
        assert arguments.save_steps % arguments.logging_steps == 0


def test_bad_input_is_refused(model):
    words = tokenizer.build()
    with pytest.raises(HealError, match="nothing to train on"):
        fit(model, words, [], CONFIG)
    for pad in (words.eos_token, None):
        words.pad_token = pad
        with pytest.raises(HealError, match="pad token"):
            fit(model, words, [row(tokenizer.build())], CONFIG)


@pytest.mark.parametrize(("change", "said"), [
    ({"completion_mask": [0] * 25}, "row 2: its completion_mask lets nothing be learned; leave the row out"),
    ({"completion_mask": [1] + [0] * 24}, "row 2: its completion_mask lets nothing be learned"),
    ({"completion_mask": None}, "row 2 has no completion_mask; give 1 for each token to learn"),
    ({"completion_mask": [1] * 24}, "row 2: its completion_mask is of length 24, for 25 tokens; give one for each"),
    ({"completion_mask": [1] * 26}, "row 2: its completion_mask is of length 26"),
    ({"completion_mask": []}, "row 2: its completion_mask is of length 0"),
])
def test_a_row_that_would_teach_nothing_or_the_prompt_is_named(model, words, change, said):
    before = copy.deepcopy(model.state_dict())
    bad = {**row(words), **change}
    for rows in ([row(words)] * 2 + [bad], [row(words)] * 2 + [{k: v for k, v in bad.items() if v is not None}]):
        with pytest.raises(HealError, match=said):
            fit(model, words, rows, CONFIG)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rows_in_order_are_trained_on_in_order(model, words):
    """One schedule over several stages needs it: what stands first is seen first."""
    short = {key: value[:21] for key, value in row(words).items()}
    first = {**row(words, {3}), "completion_mask": [0, 0, 0, 1] + [0] * 21}
    log = fit(model, words, [first] * 8 + [short] * 8, TrainConfig(learning_rate=1e-9, batch_size=8, in_order=True))
    expected = nll(model, first["input_ids"])[2]
    assert log[0]["loss"] == pytest.approx(float(expected), abs=1e-3)


def test_logit_distillation_brings_the_student_to_its_teacher(words):
    """KL(teacher || student) at the tokens that a row teaches, and at no others: the loss is that."""
    torch.set_num_threads(1)
    student, teacher = (models.new_model("student", words, seed) for seed in (0, 1))
    first, second = row(words, {3}), row(words, {5, 6})

    def distances(each, at):
        with torch.inference_mode():
            p, q = (torch.log_softmax(m.eval()(input_ids=torch.tensor([each["input_ids"]])).logits[0], -1)
                    for m in (teacher, student))
        return [float((p[i - 1].exp() * (p[i - 1] - q[i - 1])).sum()) for i in at]

    still = TrainConfig(learning_rate=1e-12, batch_size=2, in_order=True)
    by_hand = sum([*distances(first, [3]), *distances(second, [5, 6])]) / 3
    for parts in (1, 2):
        (told,) = fit(student.train(), words, [first, second], still, teacher=teacher, parts=parts)
        assert told["loss"] == pytest.approx(by_hand, rel=1e-4)
    log = fit(student.train(), words, [first, second] * 64, CONFIG, teacher=teacher)
    assert log[-1]["loss"] < 0.1 * by_hand and distances(first, [3])[0] < 0.1 * by_hand
