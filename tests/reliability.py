"""RELIABILITY.md from its promises below and the figures in results/reliability.

    python tests/reliability.py          writes it; tests/test_reliability.py checks that it is current
"""

import datetime
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "results" / "reliability"
PAGE = ROOT / "RELIABILITY.md"
TARGETS = {"torture": "kills", "mutation": "mutate", "smoke": "verify ARGS=--write"}  # what writes a file of figures
HEAD = """# Reliability: what is promised, and how it is checked

Written by `python tests/reliability.py` from `results/reliability`; a test fails where this page is not what it would
write, or where a test named here does not exist. `make test` runs every test below but those of
`test_torture`, `test_damage` and on a Ray cluster, which `make test-all` adds; `make kills`, `make damage` (both:
`make torture`), `make fuzz`, `make mutate`, `make coverage` and `make verify` run the long versions, at most 20 minutes
each, and write the figures, each with its day and the commit that it is of.

| promise | checked by | figures |
| --- | --- | --- |
"""
TAIL = """
## What is not promised

- A *unit of work* is one stage of the store (a pool, a student, an evaluation). A kill loses the unit that was being
  made, one for each worker process (as many as there are cores), and no other.
- Bits are the same on the same kind of processor with the same versions. On another one, sums are rounded otherwise, a
  draw can fall on the other side of a limit, and samples differ from there: compare intervals, not bits.
- Caches written before manifests carried a hash of their own are still read; in those, a changed number of seconds goes
  unnoticed, a changed result does not.
- Against power failure, files and folders are synced before they are renamed; this was not tested by cutting power.
"""
# (promise, tests as file::name or a command, what is said about the figures of a file in results/reliability)
PROMISES = (
    ("After kill -9 at any moment the same command gives the same tables, byte for byte; no unit is made twice.",
     ("test_torture::test_killed_runs_end_as_if_nothing_had_happened",),
     "torture: {kills} kills in {runs} runs, {kills_amid_a_unit} of them amid a unit; {runs_that_differ} runs differ, "
     "{finished_units_repeated} finished units repeated, at most {most_units_lost_by_a_kill} unit lost by a kill"),
    ("A killed run leaves no worker, and the next one sweeps its temporary files.",
     ("test_workers::test_no_process_outlives_who_asked",
      "test_store::test_what_a_killed_process_left_is_swept_and_what_a_living_one_holds_is_not",
      "test_files::test_what_a_killed_process_left_of_a_file_goes_when_it_is_written_again"),
     "torture: {temporary_folders_left} folders left over"),
    ("Ctrl-C, SIGTERM and SIGHUP stop cleanly and say how to go on.",
     ("test_processes::test_a_stopped_run_says_how_to_go_on_and_leaves_nothing",), ""),
    ("A full or read-only disk is one line, and leaves nothing half written.",
     ("test_store::test_a_disk_without_room_is_one_line_and_leaves_nothing",
      "test_store::test_a_full_device_is_noticed_when_it_happens"),
     "damage: {disks_sound} of {disks} disks: cache or results, full or read-only"),
    ("Two runs at once never corrupt each other: a second driver is refused, a second maker of a stage waits.",
     ("test_reproduce::test_a_second_run_into_the_same_folder_is_refused_whatever_its_cache",
      "test_store::test_two_processes_make_a_thing_once"),
     "damage: {pairs_sound} of {pairs} pairs: the same or another cache, the same or another results folder"),
    ("A flipped bit, a cut, a missing or an added file of a stored result is named, and the result is made again.",
     ("test_store::test_every_byte_of_a_result_counts", "test_store::test_a_damaged_result_is_named_and_made_again",
      "test_reproduce::test_a_damaged_note_of_a_run_costs_time_and_nothing_else",
      "test_damage::test_damaged_files_are_named_and_made_again_or_refused"),
     "damage: {damages} damages of cache, results and models: {made_again} made again, {refused} refused in one line, "
     "{without_effect} without effect (a model's card, of which no result reads more than a hash), {failed} failed"),
    ("A result's key covers its settings, models, data, code and library versions, and no comment.",
     ("test_keys::test_every_field_of_a_scale_reaches_the_keys_that_it_must_and_no_stage_before",
      "test_keys::test_another_version_of_a_library_makes_all_keys_new",
      "test_keys::test_other_models_make_everything_again",
      "test_keys::test_problems_of_a_file_are_known_by_what_it_holds",
      "test_codehash::test_comments_docstrings_and_types_do_not_count"), ""),
    ("Equal seeds give equal weights and tables, whatever the batch, the number of threads and the order of stages.",
     ("test_experiment::test_students_are_reproducible_and_differ_by_seed",
      "test_training::test_the_same_seed_gives_the_same_weights",
      "test_engine::test_draws_do_not_depend_on_the_batch_size",
      "test_engine::test_draws_do_not_depend_on_other_prompts_or_on_n",
      "test_bits::test_no_bit_depends_on_the_number_of_threads_that_the_machine_offers",
      "test_experiment::test_the_order_of_stages_changes_nothing",
      "test_engines_elsewhere::test_two_workers_of_ray_draw_and_read_what_hf_does",
      "test_verify::test_here_every_digit_but_times_must_be_the_same"),
     "smoke: {tables} tables and {stages} weights and data sets of `smoke` are the same from 1 worker with 2 threads "
     "and from 2 with 1, in another order and folder; hashes are committed for {processors} kind of processor"),
    ("Training that is killed goes on from its last whole checkpoint, to the same bits on a CPU.",
     ("test_training::test_a_killed_run_goes_on_to_the_same_bits_and_trusts_no_damaged_checkpoint",), ""),
    ("Too little memory halves the batch, says so, and changes no draw and no student; a loss that is NaN stops.",
     ("test_engine::test_rows_that_do_not_fit_are_drawn_and_read_in_halves_all_the_same",
      "test_backends::test_a_batch_that_does_not_fit_is_read_in_halves_and_trains_the_same_student",
      "test_backends::test_a_loss_that_is_no_number_stops_training"), ""),
    ("Whatever a model writes, verifiers and oracles raise nothing, end, and accept nothing that brute force does not.",
     ("test_fuzz::test_a_verifier_accepts_what_brute_force_does",
      "test_fuzz::test_an_oracle_calls_nothing_genuine_that_is_wrong",
      "test_fuzz::test_the_last_box_outside_the_thoughts_is_what_math_looks_at",
      "test_fuzz::test_a_megabyte_takes_bounded_time"),
     "fuzz: {cases} cases, {long_texts} long texts (up to a megabyte)"),
    ("Model text in notebooks and pages is shown, never run.",
     ("test_security::test_model_text_is_shown_and_never_run",), ""),
    ("No data is run as code or unpickled; settings cannot lead out of the results folder; secrets are not written.",
     ("test_security::test_no_source_runs_data_as_code_whatever_the_linter_knows",
      "test_security::test_the_linter_refuses_what_runs_data_as_code",
      "test_security::test_weights_are_read_from_safetensors_alone",
      "test_security::test_a_setting_cannot_lead_out_of_the_results_folder",
      "test_security::test_secrets_are_not_written_out", "test_security::test_every_dependency_is_pinned"), ""),
    ("A source that gives nothing is an explicit empty data set; a method without any is named, and missing in tables.",
     ("test_experiment::test_a_filter_that_keeps_nothing_leaves_an_empty_source",
      "test_experiment::test_a_method_with_nothing_to_train_on_is_named_and_missing",
      "test_experiment::test_a_teacher_that_solves_everything_needs_no_hint_and_no_repair"), ""),
    ("The tests run the code.", ("make coverage",),
     "coverage: {share:.1%} of {lines} lines of heal_lib; those not run are in `coverage.json`"),
    ("The tests notice changes of the code.", ("make mutate",),
     "mutation: {killed} of {mutants} mutants found ({score:.0%}); survivors are listed in `mutation.json`"),
)


def dated():
    """What every file of figures holds besides: the day, and the commit whose code they are of."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    return {"date": datetime.date.today().isoformat(), "commit": commit}


def said(words):
    """"file: text" with the file's figures filled in; what has not been run is said to be so."""
    name, _, text = words.partition(": ")
    path = FIGURES / f"{name}.json"
    if not path.is_file():
        return f"not run yet (`make {TARGETS.get(name, name)}`)"
    figures = json.loads(path.read_text())
    return text.format(**figures) + " ({date}, {commit:.7})".format(**figures)


def page():
    """The text of RELIABILITY.md."""
    rows = []
    for promise, tests, words in PROMISES:
        named = " ".join(f"`{test}`" for test in tests)
        rows.append(f"| {promise} | {named} | {said(words) if words else ''} |")
    return HEAD + "\n".join(rows) + "\n" + TAIL


if __name__ == "__main__":
    PAGE.write_text(page())
