"""Files: whole or not at all, the same bytes for the same content."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from heal_lib.files import atomic, load_dataset, save_dataset, write_table


def test_an_atomic_file_appears_whole_or_not(tmp_path):
    with pytest.raises(ValueError), atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []
    with atomic(tmp_path / "deep" / "a.svg") as temporary:
        assert temporary.suffix == ".svg"
        temporary.write_text("whole")
    assert (tmp_path / "deep" / "a.svg").read_text() == "whole"


def test_what_a_killed_process_left_of_a_file_goes_when_it_is_written_again(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".{gone.pid}.t.csv").write_text("half")
    (tmp_path / f".{os.getppid()}.t.csv").write_text("being written")
    (tmp_path / f".{gone.pid}.other.csv").write_text("half")
    with atomic(tmp_path / "t.csv") as temporary:
        temporary.write_text("whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"t.csv", f".{os.getppid()}.t.csv", f".{gone.pid}.other.csv"}


def test_tables_are_written_alike_every_time(tmp_path):
    frame = pd.DataFrame({"method": ["heal"], "mean": [1 / 3], "n": [30]})
    write_table(frame, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == b"method,mean,n\nheal,0.333333,30\n"


def test_a_dataset_survives_a_round_trip(tmp_path):
    from datasets import Dataset, Features, Sequence, Value

    lists = {"entropy": Sequence(Value("float32")), "empty": Sequence(Value("int32"))}
    features = Features({"text": Value("string"), **lists})
    rows = {"text": ["a", "b", "c"], "entropy": [[0.5], [], [1.0, 2.0]], "empty": [[], [], []]}
    data = Dataset.from_dict(rows, features=features)
    save_dataset(data.select([0, 2]), tmp_path / "d.parquet")
    loaded = load_dataset(tmp_path / "d.parquet")
    assert loaded.features == features and loaded["entropy"] == [[0.5], [1.0, 2.0]]
