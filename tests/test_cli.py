"""The command `heal` and its doctor."""

import argparse
import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from heal_lib import cli, console, doctor, embedded, engines, reproduce
from heal_lib.errors import HealError
from heal_lib.files import ROOT


def test_an_unknown_command_names_the_known_ones(capsys):
    assert cli.main(["reprduce"]) == 2 and "reproduce" in capsys.readouterr().err
    assert cli.main([]) == 0 and list(cli.TOLD) == list(cli.COMMANDS)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(cli.COMMANDS) and max(map(len, lines)) <= 120
    assert cli.main(["--version"]) == 0 and re.fullmatch(r"heal \d[\w.]*\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", ["reproduce", "ablate", "site", "distil", "show", "doctor"])
def test_a_command_hands_its_arguments_on(name):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0


def test_doctor_names_the_mend_of_what_fails_and_goes_on(monkeypatch, capsys):
    def broken():
        raise HealError("no kernel; run this")

    monkeypatch.setattr(doctor, "CHECKS", (doctor.python, broken, doctor.disk))
    assert cli.main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [line["ok"] for line in found] == [True, False, True] and found[1]["found"] == "no kernel; run this"
    assert cli.main(["doctor"]) == 1 and "MEND broken" in capsys.readouterr().out


def test_doctor_finds_models_fonts_and_the_device(monkeypatch):
    monkeypatch.setenv("DEVICE", "quantum")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.models, doctor.fonts, doctor.torch))
    models, fonts, torch = doctor.examine()
    assert [found.split()[0] for found in models["found"].split(", ")] == [*embedded.SHIPPED] and models["ok"]
    assert fonts["ok"] and not torch["ok"]
    monkeypatch.delenv("DEVICE")
    assert engines.device() in doctor.torch()


def test_doctor_names_a_package_in_the_wrong_version(monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda name: ["numpy==0.0.1", "ruff==0; extra == 'dev'"])
    with pytest.raises(HealError, match="numpy .* not 0.0.1; run make setup"):
        doctor.packages()


def heal(*arguments, **more):
    """(exit code, what standard output held as JSON, standard error) of a command in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "heal_lib.cli", *arguments, "--json"], capture_output=True, text=True,
                          cwd=ROOT, **more)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_results_are_json_and_words_go_elsewhere(capsys):
    code, found, words = heal("plan", "--gpu", "24")
    assert code == 0 and found["fits"] and found["parameters"]["max_new_tokens"] and "Qwen3-8B (4 bits)" in words

    def here(*arguments):
        code, said = cli.main([*arguments, "--json"]), capsys.readouterr()
        return code, json.loads(said.out), said.err

    code, found, words = here("reproduce", "--scale", "smoke", "--only", "00", "--list")
    assert code == 0 and found["notebooks"]["00_tour"]["scale"] == '"demo"' and "00_tour scale=" in words
    code, found, words = here("distil", "--data", "none.csv", "--teacher", "a", "--student", "b", "--out", "out")
    assert (code, found["exit"]) == (2, 2) and found["error"] in words and "none.csv" in found["error"]


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - {"completion"}))
def test_every_command_tells_what_is_wrong_as_json(name, capsys):
    assert cli.main([name, "--no-such-option", "--json"]) == 2
    assert set(json.loads(capsys.readouterr().out)) == {"error", "exit"}


@pytest.mark.parametrize("arguments", [["plan"], ["plan", "--gpu", "x"], ["distil", "--data", "x"], ["show", "--jsn"],
                                       ["reproduce", "--scael", "smoke"], ["ablate"], ["bench", "--part", "x"]])
def test_a_command_line_that_cannot_be_read_is_one_line(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/heal", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1 and said.startswith("heal: ") and "usage" not in said
    assert said.endswith(f" heal {arguments[0]} --help says more\n")
    assert "did you mean --scale?" in said or "--scael" not in arguments


def test_a_module_is_called_as_it_was_called(monkeypatch):
    assert console.Parser("plan", "").prog == "python -m heal_lib.plan"
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/heal"])
    assert console.Parser("plan", "").prog == "heal plan"


def test_tables_paths_and_missing_numbers_are_json():
    table = pd.DataFrame({"a": [1, None], "b": ["x", "y"]})
    assert json.loads(console.text({"table": table, "at": ROOT, "n": table["a"].sum()})) == {
        "table": [{"a": 1, "b": "x"}, {"a": None, "b": "y"}], "at": str(ROOT), "n": 1}


def test_what_other_processes_say_meanwhile_is_no_result(capfd):
    def command(args):
        subprocess.run(["echo", "a word"], check=True)
        print("another")
        return [1], 0

    assert console.run(argparse.ArgumentParser(), command, ["--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == [1] and "a word" in err and "another" in err


def test_a_run_is_summed_up_by_what_was_made_and_what_was_up_to_date(tmp_path, monkeypatch, capsys):
    facts = {"seconds": 2.5, "stages": {}, "outputs": {"a": "b"}}
    (tmp_path / "run.json").write_text(json.dumps({"notebooks": {
        "00_tour": {**facts, "finished": "2020-01-01T00:00:00+00:00"},
        "01_teacher_ceiling": {**facts, "finished": "2999-01-01T00:00:00+00:00"}}}))
    monkeypatch.setenv("HEAL_RESULTS", str(tmp_path))
    monkeypatch.setattr(reproduce, "command", lambda args: 0)
    assert cli.main(["reproduce", "--scale", "smoke", "--only", "00", "01", "02", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["notebook"], row["status"]) for row in found["notebooks"]] == [
        ("00_tour", "up to date"), ("01_teacher_ceiling", "made"), ("02_gear", "missing")]
    assert found["folder"] == str(tmp_path) and found["scale"] == "smoke" and found["seconds"] >= 0


def test_show_gives_the_trajectories_of_a_page(tmp_path, monkeypatch, capsys):
    from heal_lib.plots import explorer

    known = [{"id": f"p/sampled/{i}", "pieces": ["one", "</two>"]} for i in range(2)]
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    (tmp_path / "results" / "smoke").mkdir(parents=True)
    (tmp_path / "results" / "smoke" / "explorer.html").write_text(explorer.page(known))
    assert cli.main(["show", "smoke", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trajectories"] == known
    assert cli.main(["show", "smoke", "p/sampled/1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trajectories"] == known[1:]
    assert cli.main(["show", "smoke", "p/sampled/7"]) == 2 and "near it: p/sampled/" in capsys.readouterr().err


def test_show_says_how_to_make_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert cli.main(["show", "smoke"]) == 2 and "--only 00_tour" in capsys.readouterr().err
    (tmp_path / "results" / "smoke").mkdir(parents=True)
    (tmp_path / "results" / "smoke" / "explorer.html").write_text("")
    (tmp_path / "results" / "llm+window=0.5").mkdir()
    (tmp_path / "results" / "llm+window=0.5" / "run.json").write_text("{}")
    monkeypatch.setattr(console, "ROOT", tmp_path)
    assert cli.main(["show", "llm+window=0.5"]) == 2
    assert capsys.readouterr().err.endswith("--scale llm --only 08 with the settings of that run\n")
    opened = []
    monkeypatch.setattr(cli.webbrowser, "open", lambda address: opened.append(address) or True)
    assert cli.main(["show", "smoke"]) == 0 and opened[0].endswith("smoke/explorer.html")


def test_completion_completes_commands_and_options_in_bash(capsys, tmp_path):
    cli.main(["completion"])
    heal = tmp_path / "heal"
    heal.write_text(f'#!/bin/sh\nexec {sys.executable} -m heal_lib.cli "$@"\n')
    heal.chmod(0o755)
    script = capsys.readouterr().out + f"""
    COMP_WORDS=({heal} rep); COMP_CWORD=1; _heal; echo ${{COMPREPLY[@]}}
    COMP_WORDS=({heal} doctor --j); COMP_CWORD=2; _heal; echo ${{COMPREPLY[@]}}"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["reproduce", "--json"], done.stderr


def test_doctor_sees_a_cache_that_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path / "file" / "heal"))
    with pytest.raises(HealError, match="file is not a folder; point HEAL_CACHE to one"):
        doctor.disk()
