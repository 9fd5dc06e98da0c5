"""What the parts cost, side by side in one run: `make bench`. A benchmark, never a test.

    sampling  this engine, with and without entropy, against transformers' generate(output_logits=True)
    scoring   PURE's reading (all PPL and all U) in forwards of the same trajectories
    training  the path in use against TRL's defaults, and its share of the measured matrix peak
    scaling   how all three grow (heal_lib/scaling.py)
    engines   the same rows by `ray` (one and two workers) and `openai` (over loopback) as by this engine

Every row is the median of `timing.REPEATS` runs, taken in turn, on a machine that does nothing else. Tables go to
results/bench/, and the notebook 10_speed, which shows them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heal_lib import console, embedded, files, pure, training, worlds
from heal_lib.engines import SamplingParams, hf
from heal_lib.timing import in_turn, peak

if TYPE_CHECKING:
    import pandas as pd

OUT = files.ROOT / "results" / "bench"
PROBLEMS, SAMPLES = 16, 16  # one batch of the engine


def sampling() -> list[dict[str, Any]]:
    """Tokens per second and added memory of three ways to draw the same batch from the teacher."""
    import torch
    from transformers import GenerationConfig, set_seed

    engine, world = hf.HFEngine(*embedded.load("teacher")), worlds.get("countdown")
    prompts = [engine.encode(world.prompt(p)) for p in world.problems("test", PROBLEMS, 0, "hard")]
    length = world.longest("hard")
    width = max(map(len, prompts))
    ids = torch.tensor([[engine.pad] * (width - len(p)) + p for p in prompts]).repeat_interleave(SAMPLES, 0)
    how = GenerationConfig(do_sample=True, max_new_tokens=length, output_logits=True, return_dict_in_generate=True,
                           eos_token_id=sorted(engine.eos), pad_token_id=engine.pad)
    drawn = {}

    def here():
        drawn["here"] = sum(len(s.token_ids) for group in engine.sample(prompts, SAMPLES, SamplingParams(length), 0)
                            for s in group)

    def first(logits: Any) -> Any:
        return logits[:, 0]

    def blind():
        kept, hf.token_entropy = hf.token_entropy, first
        try:
            here()
        finally:
            hf.token_entropy = kept

    def generate():
        set_seed(0)
        out = engine.model.generate(ids, attention_mask=(ids != engine.pad).long(), generation_config=how)
        entropy = torch.stack([hf.token_entropy(step.float()) for step in out.logits], 1)
        drawn["generate"] = int((out.sequences[:, width:] != engine.pad).sum())
        return entropy

    seconds = in_turn(here=here, blind=blind, generate=generate)
    names = {"here": ("this engine", here), "blind": ("this engine, without entropy", blind),
             "generate": ("generate(output_logits=True)", generate)}
    return [{"way": label, "tokens": drawn.get(key, drawn["here"]), "seconds": seconds[key],
             "tokens_per_second": drawn.get(key, drawn["here"]) / seconds[key], "peak_mib": peak(run)}
            for key, (label, run) in names.items()]


def scoring() -> list[dict[str, Any]]:
    """Seconds of PURE's whole reading against one forward of the same trajectories, by their length in tokens."""
    engine, world = hf.HFEngine(*embedded.load("teacher")), worlds.get("equations")
    (problem,) = world.problems("test", 1, 0, "hard")
    step, table = "9-5=4\n\n", []
    for steps in (8, 16, 32, 64):
        ids = [*engine.encode(step * steps), engine.tokenizer.eos_token_id]
        row = {**vars(problem), "problem_id": problem.id, "token_ids": ids, "text": step * steps}
        prompt = engine.prompt(world.prompt(problem))
        seconds = in_turn(forward=lambda ids=ids, prompt=prompt: engine.score([prompt] * 32, [ids] * 32),
                          reading=lambda row=row: pure.read(engine, [row] * 32, "\n\n"))
        table.append({"tokens": len(ids), "steps": steps, "forward": seconds["forward"], "reading": seconds["reading"],
                      "forwards": seconds["reading"] / seconds["forward"]})
    return table


def training_speed() -> list[dict[str, Any]]:
    """Tokens per second of the path in use and of TRL with its defaults, and the share of the matrix peak."""
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from heal_lib.embedded import corpus

    words = embedded.load("student")[1]
    rows = [corpus.encode(words, text) for text in corpus.texts(corpus.TEACHER, 400, 0)]
    tokens = sum(len(row["input_ids"]) for row in rows)

    def ours():
        training.fit(embedded.load("student")[0].train(), words, rows, training.TrainConfig(1e-2, batch_size=8))

    def trl():
        with tempfile.TemporaryDirectory() as folder:
            args = SFTConfig(output_dir=folder, num_train_epochs=1, per_device_train_batch_size=8, report_to="none",
                             disable_tqdm=True, save_strategy="no", use_cpu=True, completion_only_loss=True)
            trainer = SFTTrainer(model=embedded.load("student")[0].train(), args=args,
                                 train_dataset=Dataset.from_list(rows), processing_class=words)
            trainer.remove_callback(PrinterCallback)
            trainer.train()

    seconds = in_turn(ours=ours, trl=trl)
    a = torch.randn(1024, 1024)
    gemm = 2 * 1024**3 / in_turn(gemm=lambda: [a @ a for _ in range(20)])["gemm"] * 20
    weights = sum(p.numel() for name, p in embedded.load("student")[0].named_parameters() if "embed" not in name)
    return [{"way": label, "tokens": tokens, "tokens_per_second": tokens / seconds[key],
             "share_of_peak": 6 * weights * tokens / seconds[key] / gemm, "gemm_gflops": gemm / 1e9}
            for key, label in (("ours", "the path in use"), ("trl", "TRL's defaults"))]


def scaling() -> list[dict[str, Any]]:
    """Seconds and memory against batch, length, samples, weights and workers."""
    from heal_lib import scaling

    return scaling.curves()


def elsewhere() -> list[dict[str, Any]]:
    """Rows per second of the other engines, against this one; see `heal_lib.overheads`."""
    from heal_lib import overheads

    return overheads.table()


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "sampling": sampling, "scoring": scoring, "training": training_speed, "scaling": scaling, "engines": elsewhere}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = console.Parser("bench", __doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="one part; all by default")
    return console.run(parser, lambda args: (measure([args.part] if args.part else list(PARTS)), 0), argv)


def measure(parts: list[str]) -> dict[str, pd.DataFrame]:
    """Runs parts and writes a table each, with the machine beside them; returns {part: its table}."""
    import pandas as pd
    import torch

    from heal_lib import notebooks, provenance

    notebooks.prepare_kernels()  # and no progress bars here
    made = {}
    for name in parts:
        made[name] = pd.DataFrame(PARTS[name]())
        files.write_table(made[name], OUT / f"{name}.csv")
        print(f"{name}\n{made[name].round(3).to_string(index=False)}", flush=True)
    files.write_json({**provenance.environment(), "threads": torch.get_num_threads()}, OUT / "machine.json")
    if all((OUT / f"{name}.csv").is_file() for name in PARTS):
        (notebook,) = notebooks.select(["10_speed"], "bench")
        notebooks.execute(notebook, OUT, {})
        print(f"{notebook.stem} is in {OUT.relative_to(files.ROOT)}")
    return made


if __name__ == "__main__":
    sys.exit(main())
