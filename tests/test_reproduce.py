"""The driver on throw-away notebooks: order, parameters, what is skipped, and how it fails."""

import json
import os
import random
import sys

import pytest
from driven import BODIES, drive, names, notebook

from heal_lib import notebooks, provenance, reproduce, run, workers
from heal_lib.embedded import pretrain
from heal_lib.errors import HealError


def test_a_real_run_leaves_notebooks_html_and_a_record(project, capsys):
    assert drive("--only", "00", "01_ceiling", "-p", "window", "1/4") == 0
    folder = project / "results" / "s+window=0.25"
    text = (folder / "notebooks" / "01_ceiling.ipynb").read_text()
    assert "0.25" in text and sys.prefix not in text and str(project) not in text and "papermill" not in text
    assert "cell:1: UserWarning" in text and "ipykernel_" not in text
    assert "./notebooks/x" in text and "0.25" in (folder / "html" / "01_ceiling.html").read_text()
    record = json.loads((folder / "run.json").read_text())
    assert record["seeds"] == [0, 1] and record["config"]["window"] == 0.25
    assert record["git"] == {"commit": None, "dirty": None}
    assert record["notebooks"]["01_ceiling"]["parameters"] == {"scale": "s", "window": 0.25}
    assert record["notebooks"]["00_tour"]["parameters"] == {"scale": "s"}
    assert {"python", "cpu", "cores", "memory_gib", "versions"} <= set(record["environment"])
    assert str(project) not in json.dumps(record) and sys.prefix not in json.dumps(record)
    assert "[1/2] 00_tour: done in 0:" in capsys.readouterr().out


def test_libraries_that_were_imported_before_a_kernel_was_forked_know_that_they_are_in_a_notebook(project):
    body = "import sys, pandas\nassert 'matplotlib' in sys.modules\nimport matplotlib.pyplot as plt\n" \
           "plt.plot([1])\nprint('columns', pandas.get_option('display.max_columns'))"
    notebook(project / "notebooks" / "02_gear.ipynb", body, 'scale = "s"')
    assert drive("--only", "02") == 0
    text = (project / "results" / "s" / "notebooks" / "02_gear.ipynb").read_text()
    assert "columns 20" in text and "image/png" in text


def test_a_folder_with_braces_in_its_name_is_one_like_others(project, monkeypatch):
    (project / "{scale} {x}").mkdir()
    (project / "notebooks").rename(project / "{scale} {x}" / "notebooks")
    monkeypatch.setattr(notebooks, "FOLDER", project / "{scale} {x}" / "notebooks")
    monkeypatch.setenv("HEAL_RESULTS", str(project / "}{0}"))
    (project / "}{0}" / "tables").mkdir(parents=True)
    assert drive("--only", "02") == 0 and (project / "}{0}" / "notebooks" / "02_gear.ipynb").is_file()


def test_outputs_are_found_where_the_run_writes_them(project):
    (project / "results" / "s+window=0.25" / "tables").mkdir(parents=True)
    assert drive("--only", "01", "02", "-p", "window", "0.25") == 0
    notes = json.loads((project / "cache" / "runs" / "s+window=0.25.json").read_text())["notebooks"]
    assert set(notes["02_gear"]["outputs"]) == {"tables/gear.csv", "notebooks/02_gear.ipynb", "html/02_gear.html"}


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("1 / 0", 1, "02_gear: ZeroDivisionError: division by zero"),
        ("from heal_lib.errors import HealError\nraise HealError('no world; use paths')", 2, "no world; use"),
        ("raise OSError(28, 'No space left on device')", 2, "no room left"),
    ],
)
def test_a_failing_cell_stops_the_run_and_is_named(project, capsys, body, code, said):
    notebook(project / "notebooks" / "02_gear.ipynb", body, 'scale = "s"')
    assert drive("--only", "02") == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("heal:")]
    assert said in line and "02_gear" in line
    left = sorted(path.name for path in (project / "results" / "s" / "notebooks").iterdir())
    assert left == ["02_gear.failed.ipynb"] and not (project / "results" / "s" / "run.json").exists()


def test_the_user_s_own_variables_are_as_they_were_after_a_notebook(tmp_path, monkeypatch):
    def stopped(*given, **settings):
        seen.append((os.environ["HEAL_RESULTS"], os.environ["HEAL_EVENTS"]))
        raise KeyboardInterrupt

    seen = []
    monkeypatch.setattr("papermill.execute_notebook", stopped)
    monkeypatch.setenv("HEAL_RESULTS", "mine")
    monkeypatch.delenv("HEAL_EVENTS", raising=False)
    before = dict(os.environ)
    with pytest.raises(KeyboardInterrupt):
        notebooks.execute(tmp_path / "00_tour.ipynb", tmp_path, {}, {"HEAL_RESULTS": "its", "HEAL_EVENTS": "own"})
    assert seen == [("its", "own")] and dict(os.environ) == before


def test_a_pool_of_workers_that_was_killed_between_notebooks_is_one_line(project, capsys, monkeypatch):
    monkeypatch.setenv("HEAL_POOL", str(project / "gone"))
    assert drive("--only", "01") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("heal: the pool of workers was killed; run the same command again")


def test_a_table_that_a_notebook_does_not_write_any_more_goes_with_its_next_run(project):
    tables = project / "results" / "s" / "tables"
    (tables / "mine.csv").write_text("no notebook's")
    assert drive("--only", "02") == 0 and (tables / "gear.csv").exists()
    notebook(project / "notebooks" / "02_gear.ipynb", BODIES["02_gear"].replace("gear.csv", "cut.csv"), 'scale = "s"')
    assert drive("--only", "02") == 0
    assert sorted(path.name for path in tables.iterdir()) == ["cut.csv", "mine.csv"]


def test_notebooks_run_in_order_without_the_gpu_one(project, executed):
    assert drive() == 0
    assert names(executed) == ["00_tour", "01_ceiling", "02_gear", "99_report"]
    assert reproduce.main(["--scale", "llm"]) == 0
    assert names(executed) == ["08_llm"]


def test_a_parameter_reaches_only_those_that_declare_it(project, executed):
    assert drive("-p", "window", "0.25") == 0
    assert dict(executed)["01_ceiling"] == {"scale": "s", "window": 0.25}
    assert dict(executed)["02_gear"] == {"scale": "s"}


def test_accelerate_s_settings_are_found_from_the_folder_that_kernels_run_in(project, executed, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("ACCELERATE_CONFIG", "fsdp.yaml")
    assert drive("--only", "00") == 0
    assert os.environ["ACCELERATE_CONFIG"] == str(project / "fsdp.yaml")


def test_what_is_up_to_date_is_skipped(project, executed, capsys):
    drive()
    names(executed)
    assert drive() == 0 and names(executed) == []
    assert "02_gear: up to date" in capsys.readouterr().out
    assert drive("--force", "--only", "02") == 0 and names(executed) == ["02_gear"]


def test_only_what_depends_on_a_change_runs_again(project, executed, monkeypatch):
    drive()
    names(executed)
    notebook(project / "notebooks" / "00_tour.ipynb", "print('new')", 'scale = "s"')
    drive()
    assert names(executed) == ["00_tour", "99_report"]  # the report reads what the tour wrote
    (project / "results" / "s" / "html" / "02_gear.html").unlink()
    drive()
    assert names(executed)[0] == "02_gear"
    (project / "results" / "s" / "tables" / "tour.csv").write_text("by hand")
    drive()
    assert names(executed)[0] == "00_tour"
    monkeypatch.setattr(run, "code_hash", lambda *_: "other code")
    drive()
    assert len(names(executed)) == 4


def test_a_killed_run_goes_on_where_it_was(project, executed, monkeypatch, capsys):
    whole = notebooks.execute

    def killed(path, folder, parameters, environment):
        if path.stem == "02_gear":
            raise KeyboardInterrupt
        whole(path, folder, parameters, environment)

    monkeypatch.setattr(notebooks, "execute", killed)
    assert drive() == 130 and names(executed) == ["00_tour", "01_ceiling"]
    monkeypatch.setattr(notebooks, "execute", whole)
    assert drive() == 0 and names(executed) == ["02_gear", "99_report"]
    assert "left" in capsys.readouterr().out


def test_a_fresh_clone_with_committed_results_computes_them(project, executed, monkeypatch, tmp_path):
    drive()
    names(executed)
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path / "empty"))
    drive()
    assert len(names(executed)) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scale", "huge"], "unknown scale 'huge'"),
        (["--only", "02_gaer"], "did you mean 02_gear"),
        (["-p", "windwo", "1"], "did you mean window"),
        (["--only", "02", "-p", "window", "1"], "unknown parameter 'window' for 02_gear"),
        (["-p", "scale", "x"], "use --scale"),
        (["--only", ""], "unknown notebook ''"),
        (["--only", "."], "unknown notebook '.'"),
        (["-p", "window", "2"], "window is 2; give a share of the trajectory, above 0 up to 1"),
        (["-p", "window", "1e400"], "window is inf; give a share"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(project, executed, capsys, arguments, said):
    assert drive(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("heal: ") and said in line and executed == []


def test_a_file_that_is_no_notebook_is_named(project, executed, capsys):
    (project / "notebooks" / "02_gear.ipynb").write_text("not json")
    assert drive() == 2 and "02_gear.ipynb: not a notebook" in capsys.readouterr().err


def trained(*, name, folder):
    (folder / name).mkdir()
    (folder / name / "model.safetensors").write_text(name)


def test_from_scratch_trains_the_models_side_by_side_and_uses_them(project, executed, monkeypatch, capsys):
    monkeypatch.setenv("HEAL_MODELS", "")
    monkeypatch.setattr(pretrain, "model", trained)
    asked, have = [], workers.have

    def one_by_one(store, stages, n):
        asked.append(n)
        have(store, stages)

    monkeypatch.setattr(workers, "have", one_by_one)
    assert drive("--from-scratch") == 0 and drive("--from-scratch") == 0
    out = capsys.readouterr().out
    assert [out.count(f"made model {name}") for name in pretrain.PLANS] == [1] * len(pretrain.PLANS)
    assert asked == [min(len(pretrain.PLANS), provenance.cores())] * 2
    record = json.loads((project / "results" / "s" / "run.json").read_text())
    assert {f"{name}/model.safetensors" for name in pretrain.PLANS} <= set(record["models"])


def test_values_are_read_as_data_and_never_run():
    read = {"0.5": 0.5, "3": 3, "1/3": 1 / 3, "true": True, "None": None, "[1, 2]": [1, 2], "paths": "paths"}
    assert {text: notebooks.parse_value(text) for text in read} == read
    assert notebooks.parse_value("__import__('os')") == "__import__('os')"


def test_a_choice_that_reads_like_none_is_that_choice_and_none_else_leaves_a_setting_alone():
    known = {"06_ablations": {"hint": "None", "window": "None"}}
    cfg, given = notebooks.settings("smoke", [["hint", "none"], ["window", "none"]], known)
    assert cfg.hint == given["hint"] == "none" and cfg.window == 1 / 3
    with pytest.raises(HealError, match="hint is 'None'; give answer, first_step, wrong or none"):
        notebooks.settings("smoke", [["hint", "None"]], known)


def test_a_folder_that_mixes_runs_is_refused_by_the_name_of_the_file(project, executed, monkeypatch):
    folder = project / "results" / "s"
    with pytest.raises(HealError, match="s/run.json: missing"):
        provenance.check(folder)

    def refused(words, besides=()):
        with pytest.raises(HealError, match=words) as caught:
            provenance.check(folder, besides)
        assert "make reproduce" in str(caught.value)

    assert drive() == 0
    provenance.check(folder)
    table = folder / "tables" / "tour.csv"
    written = table.read_text()
    table.write_text(written + "one more line")
    refused("s/tables/tour.csv: not what a notebook")
    table.unlink()
    refused("s/tables/tour.csv: missing")
    table.write_text(written)
    (folder / "tables" / "older.csv").write_text("left by somebody")
    with pytest.raises(HealError, match="s/tables/older.csv: not what a notebook of this run wrote; delete it"):
        provenance.check(folder)
    (folder / "tables" / "older.csv").unlink()
    provenance.check(folder)
    monkeypatch.setattr(run, "code_hash", lambda *files: "other code")
    assert drive("--only", "02") == 0
    refused("(01_ceiling|02_gear|99_report).ipynb: made with other code")
    refused("made with other code", besides=("99_report",))


@pytest.mark.parametrize("which", ["cache/runs/s.json", "results/s/run.json"])
def test_a_damaged_note_of_a_run_costs_time_and_nothing_else(project, executed, which):
    """Any byte flipped, cut anywhere, gone, or JSON of another kind: the run is made again, and its record is whole."""
    drive()
    executed.clear()
    file, rng = project / which, random.Random(0)
    whole = file.read_bytes()
    flips = [whole[:i] + bytes([whole[i] ^ 1 << rng.randrange(8)]) + whole[i + 1 :]
             for i in rng.sample(range(len(whole)), 12)]
    kinds = [b"[]", b"3", b"null", b'{"notebooks": []}', b'{"02_gear": 1}', b'{"02_gear": {"fingerprint": 1}}']
    for damaged in [*flips, *(whole[: rng.randrange(len(whole))] for _ in range(5)), *kinds]:
        file.write_bytes(damaged)
        assert drive("--only", "02") == 0
        assert drive() == 0 and (again := names(executed))  # of a note at least what it stood for, of a record all
        assert which.startswith("cache") or again == ["02_gear", "00_tour", "01_ceiling", "99_report"]
        provenance.check(project / "results" / "s")
    file.unlink()
    assert drive() == 0 and len(names(executed)) == 4 and file.is_file()


def test_a_second_run_into_the_same_folder_is_refused_whatever_its_cache(project, executed, capsys, monkeypatch):
    with run.alone(run.Run("s", notebooks.select(["02"], "s"), []).folder):
        monkeypatch.setenv("HEAL_CACHE", str(project / "another"))
        assert drive() == 2
    assert "another run writes there" in capsys.readouterr().err
