import dataclasses

import pytest

from heal_lib import scales
from heal_lib.errors import HealError
from heal_lib.scales import ROOT


@pytest.fixture(autouse=True)
def no_results_folder(monkeypatch):
    monkeypatch.delenv("HEAL_RESULTS", raising=False)


def test_every_scale_is_valid_and_named_after_itself(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # or `llm` says what it lacks
    assert {"smoke", "demo", "full", "llm"} <= set(scales.names())
    for name in scales.names():
        cfg = scales.get(name)
        assert cfg.name == name and cfg.results_dir == ROOT / "results" / name
        with pytest.raises(dataclasses.FrozenInstanceError):
            cfg.window = 1


def test_defaults_are_the_method_s():
    """METHOD sections 2, 3, 4 and 7; a smaller scale shrinks sizes, never a switch."""
    cfg = scales.Scale("x")
    assert (cfg.n_samples, cfg.n_failed, cfg.n_candidates, cfg.eligible_max_correct) == (30, 10, 20, 1)
    assert (cfg.window, cfg.window_unit, cfg.surge) == (1 / 3, "steps", "difference")
    assert (cfg.backoff, cfg.hint) == (1, "answer")
    assert (cfg.pure_lambda, cfg.pure_eps, cfg.pure_rule, cfg.pure_pool) == (0.2, 0.01, "quantile", ("hint", "repair"))
    assert (cfg.step_delimiter, cfg.entropy, cfg.stage_hint_below, cfg.stages_cumulative) == ("\n\n", "full", 0.5, True)
    switches = ("window", "window_unit", "surge", "backoff", "hint", "eligible_max_correct", "pure_lambda", "pure_eps",
                "pure_rule", "pure_pool", "step_delimiter", "stage_hint_below", "stages_cumulative", "temperature")
    for name in scales.names():
        assert scales.SCALES[name].pick(*switches) == cfg.pick(*switches)
    assert len(scales.get("full").seeds) == 10 and len(scales.get("demo").seeds) == 3


def test_overrides_are_taken_and_forgiving_where_it_is_safe():
    cfg = scales.get("smoke", window=1, seeds=[3, 4], n_samples=None)
    assert cfg.window == 1.0 and type(cfg.window) is float
    assert cfg.seeds == (3, 4) and cfg.n_samples == scales.get("smoke").n_samples


@pytest.mark.parametrize("name, overrides, words", [
    ("tiny", {}, "unknown scale 'tiny'; choose one of smoke, demo"),
    ("smoke", {"windw": 0.5}, "unknown parameter 'windw'; did you mean 'window'"),
    ("smoke", {"xyzzy": 1}, "unknown parameter 'xyzzy'; see"),
    ("smoke", {"name": "demo"}, "unknown parameter 'name'"),
    ("smoke", {"window": "0.5"}, "'window' is '0.5'; give a float"),
    ("smoke", {"n_samples": 2.5}, "'n_samples' is 2.5; give a int"),
    ("smoke", {"n_samples": True}, "'n_samples' is True; give a int"),
    ("smoke", {"stages_cumulative": 1}, "'stages_cumulative' is 1; give a bool"),
    ("smoke", {"seeds": 3}, "'seeds' is 3; give a tuple"),
    ("smoke", {"n_samples": 0}, "n_samples is 0; it must be at least 1"),
    ("smoke", {"k_eval": -1}, "k_eval is -1"),
    ("smoke", {"n_development": 0}, "n_development is 0"),
    ("smoke", {"seeds": ()}, "seeds are"),
    ("smoke", {"seeds": (1, 1)}, "seeds are"),
    ("smoke", {"entropy": "top20"}, "entropy='top20' is not available"),
    ("smoke", {"worlds": ("chess",)}, "unknown world 'chess'"),
    ("smoke", {"worlds": ()}, "worlds are empty"),
    ("smoke", {"difficulties": ("hrad",)}, "difficulty 'hrad'"),
    ("smoke", {"difficulties": ()}, "difficulties are empty"),
    ("smoke", {"temperature": 0.0}, "temperature is 0.0"),
    ("smoke", {"temperature": float("nan")}, "temperature is nan"),
    ("smoke", {"top_p": 0.0}, "top_p is 0.0"),
    ("smoke", {"top_p": 1.5}, "top_p is 1.5"),
    ("smoke", {"window": 0.0}, "window is 0.0"),
    ("smoke", {"window": 2.0}, "window is 2.0"),
    ("smoke", {"learning_rates": [-1.0]}, "learning_rates are (-1.0,)"),
])
def test_bad_scales_are_refused_in_one_line(name, overrides, words):
    with pytest.raises(HealError) as caught:
        scales.get(name, **overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_changed_switch_writes_elsewhere():
    assert scales.get("demo", window=0.5).results_dir.name == "demo+window=0.5"
    both = scales.get("demo", window=0.5, backoff=2)
    assert both.results_dir.name == "demo+backoff=2+window=0.5"
    assert both.results_dir == scales.get("demo", backoff=2, window=0.5).results_dir
    assert scales.get("demo", worlds=["paths"]).results_dir.name == "demo+worlds=paths"
    odd = scales.get("demo", step_delimiter="/\n").results_dir  # no character that a path could trip over
    assert odd.parent == ROOT / "results" and "\n" not in odd.name and "/" not in odd.name


def test_different_values_never_share_a_folder():
    values = [0.1234561, 0.1234562, 1 / 3 + 1e-9]
    assert len({scales.get("demo", window=v).results_dir for v in values}) == len(values)
    assert len({scales.get("demo", step_delimiter=d).results_dir for d in ("\n", "\t", ";", "_")}) == 4


def test_an_override_equal_to_the_default_changes_nothing():
    demo = scales.get("demo")
    same = scales.get("demo", window=demo.window, seeds=list(demo.seeds), worlds=list(demo.worlds), hint="answer")
    assert same == demo and same.results_dir == demo.results_dir


def test_the_driver_names_the_results_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HEAL_RESULTS", str(tmp_path))
    assert scales.get("demo").results_dir == scales.get("demo", window=0.5).results_dir == tmp_path


def test_pick_names_the_fields():
    assert scales.get("demo").pick("window", "hint") == {"window": 1 / 3, "hint": "answer"}


def test_the_variable_backend_chooses_what_trains_and_says_what_it_lacks(monkeypatch):
    import torch

    monkeypatch.setenv("BACKEND", "hf")
    assert scales.get("demo") == scales.SCALES["demo"]
    monkeypatch.setenv("BACKEND", "unsloth")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HealError, match="BACKEND=hf works here"):
        scales.get("demo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert scales.get("demo", finetune="lora").results_dir.name == "demo+backend=unsloth+finetune=lora"
