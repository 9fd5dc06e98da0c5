"""Two processes (CPU, gloo) train the student that one trains; the slow test has `accelerate launch` start them."""

import multiprocessing
import os
import socket
import types

import pytest
import torch
from safetensors.torch import load_file
from test_backends import row

from heal_lib import distributed, embedded, training
from heal_lib.backends import Finetune
from heal_lib.errors import HealError
from heal_lib.files import ROOT


@pytest.fixture
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    torch.set_num_threads(1)


def forked(command):
    """In place of `accelerate launch`: its command line is read by accelerate itself, and what it names is done in as
    many forks of this process, which has imported all that is needed already."""
    from accelerate.commands.launch import launch_command_parser

    given = launch_command_parser().parse_args(command[command.index("accelerate.commands.launch") + 1 :])
    assert given.multi_gpu and (given.module, given.training_script) == (True, "heal_lib.distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [multiprocessing.get_context("fork").Process(
        target=as_one_of, args=(rank, given.num_processes, port, *given.training_script_args))
        for rank in range(given.num_processes)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return types.SimpleNamespace(returncode=max(abs(process.exitcode) for process in processes))


def as_one_of(rank, processes, port, job):
    """What a process of `accelerate launch` does, once it has forgotten that it was trained in alone."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes),
                      MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.work(job)


@pytest.mark.parametrize("launched", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_train_what_one_trains(models_folder, words, tmp_path, one_thread, monkeypatch, launched):
    base, rows = str(models_folder / "student"), [row(words)] * 24
    stages, configs = [rows, rows], [training.TrainConfig(1e-3, batch_size=4, in_order=True)] * 2
    one = training.train(base, stages, configs, tmp_path / "1", Finetune())
    if not launched:
        monkeypatch.setattr(distributed.subprocess, "run", forked)
    two = training.train(base, stages, configs, tmp_path / "2", Finetune(processes=2))
    for i in (1, 2):
        found, known = (load_file(tmp_path / n / f"stage-{i}" / "model.safetensors") for n in ("2", "1"))
        torch.testing.assert_close(found, known, atol=1e-4, rtol=1e-3)
    for mine, right in zip(two, one, strict=True):
        assert [e["loss"] for e in mine] == pytest.approx([e["loss"] for e in right], rel=1e-3)
    embedded.load(str(tmp_path / "2" / "stage-2"))  # whole: model and tokenizer


@pytest.mark.parametrize(("room", "said"), [(1, None), (0, "1 rows at a time do not fit into memory; use ACCELERATE")])
def test_processes_whose_memory_is_full_start_again_with_smaller_batches(models_folder, words, tmp_path, monkeypatch,
                                                                         room, said):
    """accelerate is played by one process, training by what counts the rows that each reads at a time."""
    asked = []

    def fit(model, tokenizer, rows, config, *, parts, **more):
        asked.append(config.batch_size // parts // 2)
        if asked[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [{"loss": 1.0}]

    def run(command):
        try:
            distributed.work(command[-1])
        except RuntimeError:
            return types.SimpleNamespace(returncode=1)
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(distributed.subprocess, "run", run)
    monkeypatch.setattr(distributed.backends, "load", lambda *given: (None, None))
    monkeypatch.setattr(training, "fit", fit)
    given = (str(models_folder / "student"), [[row(words)] * 8], [training.TrainConfig(1e-3, 8)], tmp_path,
             Finetune(processes=2))
    with pytest.warns(UserWarning, match="memory is full: training starts again with each batch in 4 parts"):
        if said:
            with pytest.raises(HealError, match=said):
                training.train(*given)
        else:
            assert training.train(*given) == [[{"loss": 1.0}]]
    assert asked == [4, 2, 1]


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
