"""Two processes under `accelerate launch` (CPU, gloo) train the student that one process trains."""

import os

import pytest
import torch
from safetensors.torch import load_file
from test_backends import row

from heal_lib import embedded, training
from heal_lib.backends import Finetune
from heal_lib.errors import HealError
from heal_lib.files import ROOT


@pytest.fixture
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    torch.set_num_threads(1)


def test_two_processes_train_what_one_trains(models_folder, words, tmp_path, one_thread):
    base, rows = str(models_folder / "student"), [row(words)] * 24
    stages, configs = [rows, rows], [training.TrainConfig(1e-3, batch_size=4, in_order=True)] * 2
    one, two = (training.train(base, stages, configs, tmp_path / str(n), Finetune(processes=n)) for n in (1, 2))
    for i in (1, 2):
        found, known = (load_file(tmp_path / n / f"stage-{i}" / "model.safetensors") for n in ("2", "1"))
        torch.testing.assert_close(found, known, atol=1e-4, rtol=1e-3)
    for mine, right in zip(two, one, strict=True):
        assert [e["loss"] for e in mine] == pytest.approx([e["loss"] for e in right], rel=1e-3)
    embedded.load(str(tmp_path / "2" / "stage-2"))  # whole: model and tokenizer


def test_what_processes_cannot_do_is_said_in_one_line(models_folder, words, tmp_path):
    def line(how, batch=4):
        with pytest.raises(HealError) as caught:
            training.train(str(models_folder / "student"), [[row(words)] * 8], [training.TrainConfig(1e-3, batch)],
                           tmp_path, how)
        return str(caught.value)

    assert line(Finetune(processes=3)) == "batch_size is 4; 3 processes cannot share it evenly"
    assert "lora runs on one GPU" in line(Finetune(method="lora", processes=2))


def test_the_shipped_fsdp_settings_are_accelerate_s():
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / "heal_lib" / "fsdp.yaml"))
    assert config.distributed_type == "FSDP" and config.fsdp_config["fsdp_version"] == 2
