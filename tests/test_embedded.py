"""The shipped models: found, checked, loaded; and what they are trained on."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

import heal_lib
from heal_lib import backends, embedded, worlds
from heal_lib.embedded import corpus, models, muon, pretrain, tokenizer
from heal_lib.errors import HealError
from heal_lib.files import file_hash
from heal_lib.trajectory import rng_of
from heal_lib.worlds.base import SPLITS


@pytest.fixture(autouse=True)
def no_memory():
    embedded.model_hash.cache_clear()
    yield
    embedded.model_hash.cache_clear()


@pytest.fixture
def folder(models_folder, tmp_path, monkeypatch):
    """A copy of the tiny teacher with a card, as HEAL_MODELS."""
    shutil.copytree(models_folder / "teacher", tmp_path / "teacher")
    card = {"sha256": file_hash(tmp_path / "teacher" / "model.safetensors")}
    (tmp_path / "teacher" / "card.json").write_text(json.dumps(card))
    monkeypatch.setenv("HEAL_MODELS", str(tmp_path))
    return tmp_path / "teacher"


# --- files

def test_a_model_and_its_tokenizer_are_loaded(folder, models_folder, words):
    for name in ("teacher", str(folder)):
        model, tokenizer = heal_lib.load_model(name)
        assert not model.training and next(model.parameters()).dtype == torch.float32
        assert tokenizer.get_vocab() == words.get_vocab() and tokenizer.pad_token_id != tokenizer.eos_token_id
    made = models.new_model("student", words, 0).state_dict()
    torch.testing.assert_close(dict(model.state_dict()), dict(made))


def test_a_folder_without_a_tokenizer_is_named(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(HealError, match="holds no tokenizer; save one there"):
        heal_lib.load_model(str(folder))


def one_line(call):
    with pytest.raises(HealError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_weight_file_is_named_with_its_mend(folder):
    (folder / "model.safetensors").unlink()
    for call in (embedded.load, lambda: embedded.model_hash("teacher")):
        assert re.search(r"teacher/model\.safetensors.*restore.*make teacher", one_line(call))
    assert "student/model.safetensors" in one_line(lambda: embedded.load("student"))
    assert "nowhere/model.safetensors" in one_line(lambda: embedded.load("/nowhere"))


@pytest.mark.parametrize("change", [lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b[: len(b) // 2], lambda b: b""])
def test_an_altered_weight_file_is_named_with_its_mend(folder, change):
    path = folder / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    said = one_line(embedded.load)
    assert re.search(r"teacher/model\.safetensors does not match .*sha256.*restore.*make teacher", said)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_another_file_of_a_model_that_is_not_as_its_card_says_is_named(folder, file):
    """Of a folder without such a card it would make another model."""
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "files": embedded.besides(folder)}))
    before = embedded.model_hash("teacher")
    (folder / file).write_text((folder / file).read_text().replace("1", "2", 1))
    embedded.model_hash.cache_clear()
    assert f"teacher/{file} does not match the sha256 on its card; restore" in one_line(embedded.load)
    (folder / "card.json").unlink()
    assert embedded.model_hash("teacher") != before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sha256": "x", "files": 3}'])
def test_an_altered_card_is_named_with_its_mend(folder, text):
    (folder / "card.json").write_text(text)
    assert re.search(r"teacher/card\.json.*restore", one_line(embedded.load))


def test_a_model_in_several_files_is_known_by_all_of_them(models_folder, tmp_path):
    model, words = embedded.load(str(models_folder / "student"))
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    words.save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    before = embedded.model_hash(str(tmp_path))
    assert len(shards) > 1 and before != embedded.model_hash(str(models_folder / "student"))
    again = embedded.load(str(tmp_path))[0].state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    shards[-1].write_bytes(shards[-1].read_bytes()[:-1] + b"x")
    embedded.model_hash.cache_clear()
    assert embedded.model_hash(str(tmp_path)) != before


def test_shards_are_those_that_the_index_names(models_folder, tmp_path):
    model, words = embedded.load(str(models_folder / "student"))
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    words.save_pretrained(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    for path in sorted(tmp_path.glob("model-*.safetensors")):  # files may be called as they like
        path.rename(tmp_path / path.name.replace("model-", "part_"))
    index.write_text(index.read_text().replace("model-0", "part_0"))
    again = embedded.load(str(tmp_path))[0].state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    last = sorted(tmp_path.glob("part_*"))[-1]
    embedded.model_hash.cache_clear()
    last.rename(tmp_path / "elsewhere")
    assert f"{last.name} for '{tmp_path}', which its index names" in one_line(lambda: embedded.load(str(tmp_path)))
    for text in ("", "[]", "{}", '{"weight_map": 1}'):
        index.write_text(text)
        assert "index.json is damaged" in one_line(lambda: embedded.load(str(tmp_path)))


CHANGES = {  # to a file of a model's folder, from the text that is there
    "config.json": lambda text: text.replace('"silu"', '"gelu"'),
    "generation_config.json": lambda text: text.replace('"eos_token_id": 1', '"eos_token_id": [1, 2]'),
    "tokenizer.json": lambda text: text.replace("countdown ", "COUNTDOWN "),
    "tokenizer_config.json": lambda text: text.replace('"<eos>"', '"<unk>"'),
    "chat_template.jinja": lambda text: "{{ messages[0]['content'] }}",
    "additional_chat_templates/tool.jinja": lambda text: "{{ messages[1]['content'] }}",
    "special_tokens_map.json": lambda text: "{}",
}


@pytest.mark.parametrize("file", CHANGES)
def test_configuration_tokenizer_and_template_are_part_of_a_model(folder, file):
    before, path = embedded.model_hash("teacher"), folder / file
    text = path.read_text() if path.is_file() else ""
    assert CHANGES[file](text) != text
    path.parent.mkdir(exist_ok=True)
    path.write_text(CHANGES[file](text))
    embedded.model_hash.cache_clear()
    assert embedded.model_hash("teacher") != before


def test_a_model_is_the_same_wherever_it_lies_and_whatever_lies_beside_it(folder, tmp_path):
    before = embedded.model_hash("teacher")
    shutil.copytree(folder, tmp_path / "moved")
    for name in ("README.md", "pretraining.json", "training.log"):
        (tmp_path / "moved" / name).write_text("{}")
    (tmp_path / "moved" / "card.json").unlink()
    assert embedded.model_hash(str(tmp_path / "moved")) == before == embedded.model_hash("teacher")


def test_a_model_of_the_hub_that_is_not_to_be_had_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = one_line(lambda: embedded.load("nobody/no-such-model"))
    assert said.startswith("nobody/no-such-model: no such folder") and "check the name and the network" in said


def test_a_failed_check_is_not_remembered(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    one_line(embedded.load)
    path.write_bytes(whole)
    assert embedded.model_hash("teacher")


@pytest.mark.parametrize("name", sorted(path.name for path in embedded.WEIGHTS.iterdir()))
def test_shipped_models_are_whole_small_and_carded(name):
    folder = embedded.WEIGHTS / name
    card = json.loads((folder / "card.json").read_text())
    assert card["sha256"] == file_hash(folder / "model.safetensors") and card["files"] == embedded.besides(folder)
    assert sum(path.stat().st_size for path in embedded.WEIGHTS.rglob("*.safetensors")) < 7e6
    assert {weight.dtype for weight in load_file(folder / "model.safetensors").values()} == {torch.float16}
    assert {weight.dtype for weight in embedded.load(str(folder))[0].parameters()} == {torch.float32}


@pytest.mark.parametrize("use", ["sampling", "full", "lora"])
def test_weights_rest_in_sixteen_bits_and_are_used_in_thirty_two(use, words, tmp_path):
    made = models.new_model("student", words, 0)
    pretrain.save(made, tmp_path)
    words.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    model, _ = (embedded.load(str(tmp_path)) if use == "sampling" else
                backends.load(str(tmp_path), backends.Finetune(method=use)))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    found = {name.replace("base_model.model.", "").replace("base_layer.", ""): weight
             for name, weight in model.state_dict().items() if "lora_" not in name}
    assert found.keys() == stored.keys() == made.state_dict().keys()
    assert all(torch.equal(weight, stored[name].float()) for name, weight in found.items())
    torch.testing.assert_close(found, dict(made.state_dict()), rtol=2**-11, atol=1e-7)


# --- tokenizer, architecture, corpus

@pytest.mark.parametrize("name", [*worlds.names(), *worlds.names("registers")])
def test_every_text_of_a_world_joins_back_from_its_tokens(name):
    world = worlds.get(name)
    words = tokenizer.build(world.family)
    for level in world.difficulties:
        for i, problem in enumerate(world.problems("test", 10, 0, level)):
            steps = [*world.routine(problem), *world.derivation(problem), *world.habit(problem, rng_of(i)),
                     *world.shortcut(problem, rng_of(i)), f"\\boxed{{{problem.answer}}}"]
            for text in (world.prompt(problem) + world.hint(problem) + "\n\n".join(steps), world.drill(rng_of(i))):
                ids = words.encode(text, add_special_tokens=False)
                assert words.decode(ids) == text == "".join(words.decode([i]) for i in ids)
                assert words.unk_token_id not in ids and words.eos_token_id not in ids


def test_special_tokens_are_three_different_ones(words):
    assert len({words.pad_token_id, words.eos_token_id, words.unk_token_id}) == 3


@pytest.mark.parametrize("size", models.SIZES)
def test_new_models_are_seeded_and_small(size, words):
    one, again, other = (models.new_model(size, words, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.values(), again.values(), strict=True))
    assert not torch.equal(*(x["model.embed_tokens.weight"] for x in (one, other)))
    assert models.new_model(size, words, 0).num_parameters() < (50e6 if size.startswith("big") else 5e6)


def test_edges_start_out_alike_where_they_share_a_letter_in_the_same_place(words):
    table = models.new_model("student", words, 0).get_input_embeddings().weight

    def alike(a, b):
        return torch.cosine_similarity(*(table[words.convert_tokens_to_ids(f" {edge}")] for edge in (a, b)), 0).item()

    assert min(alike("A>B", "A>C"), alike("A>B", "C>B")) > 0.3 > 0.2 > abs(alike("A>B", "C>D"))
    assert abs(alike("A>B", "B>A")) < 0.3  # which end a letter is on matters


@pytest.mark.parametrize("name", pretrain.PLANS)
def test_hints_and_prompts_are_never_learned(name):
    recipe, words = pretrain.PLANS[name].recipe, tokenizer.build(name.rpartition("-")[0])
    texts = list(corpus.texts(recipe, 150, seed=1))
    assert texts == list(corpus.texts(recipe, 150, seed=1)) != list(corpus.texts(recipe, 150, seed=2))
    hinted = 0
    for text in texts:
        assert not text[0][1] and not any("hint" in piece for piece, learn in text if learn)
        hinted += any("hint" in piece for piece, _ in text)
        row = corpus.encode(words, text)
        assert len(row["input_ids"]) == len(row["completion_mask"]) <= models.CONTEXT
        assert row["input_ids"][-1] == words.eos_token_id and row["completion_mask"][-1] == 1
        assert words.decode(row["input_ids"][:-1]) == "".join(piece for piece, _ in text)
    assert hinted == 0 if "student" in name else 0.25 < hinted / 150 < 0.65


@pytest.mark.parametrize("name", ["teacher", "registers-teacher"])
def test_no_model_is_trained_on_a_problem_of_another_split(name):
    plan, family = pretrain.PLANS[name], name.rpartition("-")[0]
    seen = {text[0][0] for texts in plan.phases(90 / sum(plan.texts), 0) for text in texts}
    for world in map(worlds.get, worlds.names(family)):
        for level in world.difficulties:
            for split in set(SPLITS) - {"pretrain"}:
                assert not seen & {world.prompt(p) for p in world.problems(split, 15, 0, level)}


def test_the_student_base_of_registers_knows_no_glyph():
    """Every operation is taken equally often at every fork."""
    world, right, n = worlds.get("registers"), 0, 0
    for i, problem in enumerate(world.problems("pretrain", 300, 0, "hard")):
        text = "\n\n".join(world.habit(problem, rng_of(i), corpus.REGISTERS_STUDENT.habit))
        forks = [s for s in world.check_steps(problem, text).steps if s.kind == "derive"]
        right, n = right + sum(s.valid for s in forks), n + len(forks)
    assert abs(right / n - 1 / 3) < 0.06


def test_the_optimiser_goes_on_from_what_it_saved():
    """Pretraining takes up where it was stopped: the same weights after two steps in one go, and in two."""
    def steps(*counts):
        model, saved = torch.nn.Linear(4, 4), None
        with torch.no_grad():
            model.weight.copy_(torch.eye(4))
            model.bias.zero_()
        for n in counts:
            optimiser = muon.Muon(model, 0.1)
            if saved:
                optimiser.load_state_dict(saved)
            for _ in range(n):
                model(torch.arange(8.0).reshape(2, 4)).square().sum().backward()
                optimiser.step()
                optimiser.zero_grad()
            saved = optimiser.state_dict()
        return model.weight.detach()

    assert torch.equal(steps(2), steps(1, 1)) and not torch.equal(steps(2), steps(1))
