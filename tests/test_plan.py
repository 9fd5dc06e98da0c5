"""The planner: numbers that can be worked out by hand, cards that are too small, and the shipped models' own sizes."""

import json
import types
from dataclasses import replace

import pandas as pd
import pytest
import torch
from transformers import AutoConfig

from heal_lib import backends, embedded, llm, plan, scales, shapes, tally
from heal_lib.files import ROOT
from heal_lib.plan import PRESETS, Preset
from heal_lib.shapes import MODELS
from heal_lib.worlds import mathematics


def test_weights_are_counted_on_the_model_itself():
    model, _ = embedded.load("student")
    every, ends = shapes.parameters(str(embedded.folder("student")))
    assert every == model.num_parameters()
    assert ends == model.get_input_embeddings().weight.numel() + model.lm_head.weight.numel()  # untied


@pytest.mark.parametrize("name, billions", [
    ("Qwen3-0.6B", 0.6), ("Qwen3-1.7B", 1.7), ("Qwen3-4B", 4.0), ("Qwen3-8B", 8.2), ("Qwen3-14B", 14.8),
    ("Qwen3-32B", 32.8)])
def test_the_family_has_the_sizes_in_its_names(name, billions):
    assert shapes.parameters(name)[0] / 1e9 == pytest.approx(billions, abs=0.06)


def test_the_cache_by_hand():
    """Qwen3-8B: 36 layers, 8 heads of 128, keys and values, two bytes: 144 KiB a token."""
    assert shapes.cache_per_token("Qwen3-8B") == 36 * 8 * 128 * 2 * 2 == 144 * 1024


def test_adapters_are_what_peft_makes_of_them():
    from peft import LoraConfig, get_peft_model

    model, _ = embedded.load("student")
    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    made = get_peft_model(model, LoraConfig(r=4, target_modules=projections))
    count = sum(p.numel() for p in made.parameters() if p.requires_grad)
    assert shapes.lora_parameters(str(embedded.folder("student")), 4) == count


@pytest.mark.parametrize("size", PRESETS)
def test_presets_fit_their_cards_and_not_much_smaller_ones(size):
    assert plan.plan(PRESETS[size])["fits"]
    assert not plan.plan(replace(PRESETS[size], gpu=size // 4))["fits"]


def test_memory_grows_with_rows_and_length_alone_where_it_should():
    p = PRESETS[24]
    more = replace(p, rows=2 * p.rows)
    row = plan.sampling_memory(more) - plan.sampling_memory(p)
    assert row == pytest.approx(p.rows * (p.length * shapes.cache_per_token(p.teacher) + 12 * 151_936))
    assert plan.training_memory(more) == plan.training_memory(p)
    assert plan.training_memory(replace(p, length=2 * p.length)) > plan.training_memory(p)


def test_training_never_took_more_of_a_card_than_planned_with_unsloth():
    """Nor does the plan hold for `hf`, and says so."""
    table = pd.read_csv(ROOT / "results" / "gpu" / "training.csv")
    table = table[table["size"].map(lambda size: f"Qwen3-{size}" in MODELS)]
    assert set(table[table["backend"] == "unsloth"]["size"]) == {"0.6B", "1.7B"}
    for row in table.itertuples():  # two rows at a time, the usual rank
        p = replace(PRESETS[80], student=f"Qwen3-{row.size}", length=row.length, micro_batch=2)
        assert (row.peak_gib <= plan.training_memory(p) / plan.GIB) == (row.backend == "unsloth"), row
    assert "Not for backend hf" in plan.training_memory.__doc__


def test_the_command_says_what_fits(capsys):
    assert plan.main(["--gpu", "24"]) == 0
    assert "Qwen3-8B (4 bits) teaches Qwen3-1.7B" in capsys.readouterr().out
    assert plan.main(["--gpu", "24", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is True


@pytest.mark.parametrize("size", [*PRESETS, 48])
def test_a_preset_is_a_recipe_of_scale_llm_that_fits_its_card(size, monkeypatch):
    monkeypatch.setattr(backends, "check", lambda how: None)  # it asks for Unsloth
    found, p = plan.preset(size), plan.chosen(size)
    cfg = scales.get("llm", **found)
    assert {key: getattr(cfg, key) for key in found} == found and plan.plan(p)["fits"]
    assert cfg.teacher.endswith(f"{p.teacher}-bnb-4bit" if p.teacher_bits == 4 else f"Qwen/{p.teacher}")
    assert cfg.train_tokens == plan.tokens_trained(p) and cfg.max_new_tokens == p.length
    assert (cfg.backend, cfg.finetune, cfg.student) == ("unsloth", "lora", f"Qwen/{p.student}")


def test_a_student_in_four_bits_and_a_model_in_a_folder():
    found = plan.parameters_of(replace(PRESETS[16], student_bits=4, teacher="./mine"))
    assert found["finetune"] == "qlora" and found["teacher"] == "./mine"


def test_the_command_prints_the_parameters(capsys):
    assert plan.main(["--gpu", "80", "--length", "4096"]) == 0
    said = capsys.readouterr().out
    assert "parameters of scale llm:\n  teacher = unsloth/Qwen3-32B-bnb-4bit\n" in said
    assert "  max_new_tokens = 4096\n" in said
    assert plan.main(["--gpu", "80", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == json.loads(json.dumps(plan.preset(80)))


def test_a_notebook_run_by_hand_takes_the_preset_of_the_card_that_it_finds(monkeypatch):
    monkeypatch.delenv("HEAL_EVENTS", raising=False)
    monkeypatch.setenv("HEAL_RESULTS", "somewhere")  # which a reader may set as well
    card = types.SimpleNamespace(total_memory=int(23.7 * plan.GIB))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: card)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert plan.here() == {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert plan.here() == plan.preset(24)
    monkeypatch.setenv("HEAL_EVENTS", "log")
    assert plan.here() == {}
    monkeypatch.delenv("HEAL_EVENTS")
    card.total_memory = 8 * plan.GIB
    assert plan.here() == {}


@pytest.mark.parametrize("gib, size", [
    (14.56, 16), (14.75, 16), (15.77, 16),  # T4, V100
    (22.03, 24), (22.5, 24), (23.7, 24), (39.4, 24),  # L4, A10G, RTX 4090, A100 of 40 GB
    (79.2, 80), (139.8, 141)])  # H100, H200
def test_a_card_has_a_tenth_less_than_its_name_says_and_its_preset_fits_it(monkeypatch, gib, size):
    monkeypatch.delenv("HEAL_RESULTS", raising=False)
    card = types.SimpleNamespace(total_memory=int(gib * plan.GIB))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: card)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert plan.here() == plan.preset(size) and plan.plan(plan.chosen(gib))["fits"]


def test_a_notebook_takes_a_preset_at_scale_llm_alone_and_what_is_given_before_it():
    given = {"teacher": "mine", "seeds": None, "n_test": 5}
    assert plan.overrides("smoke", plan.preset(24), given) == {"teacher": "mine", "n_test": 5}
    assert plan.overrides("llm", {}, given) == {"teacher": "mine", "n_test": 5}
    assert plan.overrides("llm", plan.preset(24), given) == {**plan.preset(24), "teacher": "mine", "n_test": 5}


def test_what_cannot_fit_is_refused_and_mended(capsys):
    assert plan.main(["--gpu", "24", "--teacher", "Qwen3-32B", "--teacher-bits", "16"]) == 2
    assert "does not fit on 24 GiB; would: no single change" in capsys.readouterr().err
    assert plan.main(["--gpu", "24", "--rows", "256"]) == 2
    change = plan.what_would_fit(replace(PRESETS[24], rows=20))[0]
    key, value = change.split("=")
    assert plan.plan(replace(PRESETS[24], rows=20, **{key: int(value)}) if key != "rows"
                     else replace(PRESETS[24], rows=int(value)))["fits"]


@pytest.mark.parametrize("arguments, message", [
    (["--gpu", "8"], "no preset for 8 GiB; the smallest is for 16"),
    (["--gpu", "24", "--teacher", "nobody/nothing"], "unknown model 'nobody/nothing'; choose one of Qwen3-0.6B"),
    (["--gpu", "24", "--teacher-bits", "7"], "7 bits per weight; choose 4, 16 or 32")])
def test_bad_input_is_one_line(capsys, arguments, message):
    assert plan.main(arguments) == 2
    assert capsys.readouterr().err.strip().startswith(f"heal: {message}")


SHAPE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 48}


@pytest.mark.parametrize("kind, sizes, queries, keys, inner", [
    ("qwen2", SHAPE, 32, 16, 48),  # no head_dim
    ("gpt2", {"vocab_size": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}, 32, 32, 128),  # nor heads of keys
    ("gemma3", {"text_config": {**SHAPE, "head_dim": 16}}, 64, 32, 48)])  # its sizes are its text model's
def test_a_folder_s_model_is_planned_with_whatever_its_configuration_leaves_out(
        tmp_path, capsys, kind, sizes, queries, keys, inner):
    AutoConfig.for_model(kind, **sizes).save_pretrained(tmp_path)
    name = str(tmp_path)
    assert shapes.cache_per_token(name) == 3 * keys * 2 * 2
    assert shapes.lora_parameters(name, 1) == 3 * (2 * (32 + queries) + 2 * (32 + keys) + 3 * (32 + inner))
    assert plan.main(["--gpu", "24", "--teacher", name, "--student", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sampling_gib"] < 1


@pytest.mark.parametrize("config", [
    {"model_type": "mamba"}, {"model_type": "t5"}, {"model_type": "qwen2", "hidden_size": "wide"},
    {"model_type": "qwen2", "num_attention_heads": 0}, {"model_type": "no_such"}, {}, [],
    {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}])
def test_a_folder_that_cannot_be_planned_with_is_one_line(tmp_path, capsys, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert plan.main(["--gpu", "24", "--teacher", str(tmp_path), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)["error"]
    assert said.startswith(f"{tmp_path}: its config.json is of no model to plan with (") and "\n" not in said
    assert said.endswith("); choose one of " + ", ".join(MODELS) + ", or a local folder")


def test_presets_name_known_models():
    assert all(isinstance(p, Preset) and {p.teacher, p.student} <= set(MODELS) for p in PRESETS.values())


def test_the_paper_s_setting_is_shared_among_cards():
    one, node, cluster = plan.on_paper(2.0)
    assert one["tokens_drawn"] == cluster["tokens_drawn"] == 2 * 900 * 30 * 6000
    assert one["sampling_hours"] == 64 * cluster["sampling_hours"] == pytest.approx(
        2 * 900 * 30 * 6000 * 2 * shapes.parameters("Qwen3-32B")[0] / (0.02 * 312e12) / 3600, abs=0.1)
    assert one["tokens_trained"] == plan.tokens_trained(PRESETS[80])  # of one student
    assert one["training_hours"] == 8 * node["training_hours"] == 8 * cluster["training_hours"]


# --- hours
def test_all_that_notebook_08_does_is_counted_and_shown(capsys):
    """By hand, at the preset of 24: 450 problems, half of them hinted, 135 repaired, 560 tested on, texts of 4,000."""
    p, found = PRESETS[24], plan.plan(PRESETS[24])
    of = {row["name"]: row for row in found["parts"]}
    assert {name: row["n"] for name, row in of.items()} == {
        "pool": 450 * 30, "hints": 225 * 10, "repairs": 135 * 2 * 5 * 9, "readings": 225 * 10 + 135 * 2 * 5,
        "students": 3 * 3, "evaluation": 4 * 3 * 560 * 4}
    assert of["readings"]["tokens"] == 2 * of["readings"]["n"] * 4000
    drawn = [of[name] for name in ("pool", "hints", "repairs", "evaluation")]
    assert found["tokens_drawn"] == sum(row["tokens"] for row in drawn) == 4000 * sum(row["n"] for row in drawn)
    assert found["tokens_trained"] == of["students"]["tokens"] == 9 * plan.tokens_trained(p)
    student, peak = shapes.parameters(p.student)[0], 125e12 * 3600
    assert found["training_hours"] == pytest.approx(6 * student * found["tokens_trained"] / (0.3 * peak), abs=0.1)
    assert of["evaluation"]["hours"] == pytest.approx(2 * student * drawn[-1]["tokens"] / (0.02 * peak), abs=0.1)
    assert found["sampling_hours"] == pytest.approx(sum(row["hours"] for row in [*drawn, of["readings"]]), abs=0.1)
    plan.main(["--gpu", "24"])
    said = capsys.readouterr().out
    assert all(row["product"] in said and f"{row['hours']:.0f} h  {row['product']}" in said for row in of.values())
    for assumed in ("of 900 problems asked for, the set to distil from has 450", "50% of them", "30% by one"):
        assert assumed in said


def test_fewer_problems_and_other_shares_are_counted_as_such():
    few = plan.plan(plan.chosen(24, n_problems=100, hinted_share=0.2, repaired_share=0.0))
    assert [row["n"] for row in few["parts"]][:4] == [3000, 200, 0, 200]


def test_a_set_holds_as_many_problems_as_the_plan_takes_it_to(monkeypatch):
    rows = [(f"What is {i} + {i}?", str(2 * i)) for i in range(903)]  # those of `aime` until 2023
    monkeypatch.setattr(mathematics, "load", lambda source: rows)
    monkeypatch.setattr(mathematics, "_benchmarks", lambda: frozenset())
    found = len(mathematics.Mathematics().problems("distil", 900, 0, "aime"))
    assert found == pytest.approx(plan.HELD["aime"], rel=0.1)


def test_a_measured_run_had_the_rows_that_are_counted():
    """results/llm, with its own shares of problems that were hinted and repaired."""
    folder = ROOT / "results" / "llm"
    config, ceiling, cuts = json.loads((folder / "run.json").read_text())["config"], *(
        pd.read_csv(folder / "tables" / f"llm_{name}.csv") for name in ("ceiling", "cuts"))
    sizes = ("n_samples", "n_hinted", "n_failed", "n_candidates", "k_eval", "seeds")
    cfg = replace(scales.SCALES["llm"], **{name: config[name] for name in sizes})
    problems = int(ceiling["n_problems"].sum())
    found = {part.name: part.n for part in tally.parts(
        cfg, problems, config["n_test"] * len(config["benchmarks"]), 1.0, cuts["n_problems"].max() / problems)}
    assert found["pool"] == (ceiling["n_problems"] * ceiling["n_samples"]).sum()
    assert found["repairs"] == cuts["n_candidates"].sum()
    students = {path.stem: len(pd.read_parquet(path)) for path in (folder / "per_sample").glob("*.parquet")}
    assert students.keys() == set(llm.METHODS) and found["evaluation"] == sum(students.values())


def test_training_is_not_taken_to_be_faster_than_it_was_measured_on_an_h100():
    folder = ROOT / "results" / "gpu"
    assert "H100" in json.loads((folder / "hardware.json").read_text())["card"]
    rows = pd.read_csv(folder / "training.csv").query("size != '0.1B'")
    reached = max(6 * shapes.parameters(f"Qwen3-{size}")[0] * speed
                  for size, speed in zip(rows["size"], rows["tokens_per_second"], strict=True))
    assert all(p.training_share * p.peak_tflops * 1e12 < 1.05 * reached for p in PRESETS.values())
