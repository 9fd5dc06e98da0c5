"""The command `heal` and its doctor."""

import json
import subprocess
import sys

import pytest

from heal_lib import cli, doctor, engines
from heal_lib.errors import HealError


def test_an_unknown_command_names_the_known_ones(capsys):
    assert cli.main(["reprduce"]) == 2 and "reproduce" in capsys.readouterr().err
    assert cli.main([]) == 0 and "doctor" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["reproduce", "ablate", "site", "distil"])
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
    assert models["ok"] and "teacher" in models["found"] and fonts["ok"] and not torch["ok"]
    monkeypatch.delenv("DEVICE")
    assert engines.device() in doctor.torch()


def test_doctor_names_a_package_in_the_wrong_version(monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda name: ["numpy==0.0.1", "ruff==0; extra == 'dev'"])
    with pytest.raises(HealError, match="numpy .* not 0.0.1; run make setup"):
        doctor.packages()


def test_show_says_how_to_make_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert cli.main(["show", "smoke"]) == 2 and "--only 00_tour" in capsys.readouterr().err
    (tmp_path / "results" / "smoke").mkdir(parents=True)
    (tmp_path / "results" / "smoke" / "explorer.html").write_text("")
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
