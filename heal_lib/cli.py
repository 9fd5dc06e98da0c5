"""The command `heal`; `heal --help` tells what it can do. With --json each of its commands prints its result as JSON,
and words on standard error."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
import time
import webbrowser
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from heal_lib import console
from heal_lib.errors import HealError
from heal_lib.files import ROOT


def reproduce(arguments: list[str]) -> int:
    """`heal_lib.reproduce`, whose result is a summary of the run."""
    driver = importlib.import_module("heal_lib.reproduce")

    def command(args):
        start = time.time()
        with driver.interruptible():
            code = driver.command(args)
        return summary(args, start), code

    return console.run(driver.parser(), command, arguments)


def summary(args: argparse.Namespace, start: float) -> dict[str, Any]:
    """What a run of that command line, begun at `start` (seconds since 1970), left: folder, seconds, and a row per
    notebook, "made", "up to date" or, where run.json lacks it, "missing"; of --list notebooks and parameters, of
    --check-readme nothing."""
    notebooks, run = (importlib.import_module(f"heal_lib.{name}") for name in ("notebooks", "run"))
    if args.check_readme:
        return {}
    paths = notebooks.select(args.only, args.scale)
    if args.list:
        return {"notebooks": {path.stem: notebooks.declared(path) for path in paths}}
    done = run.Run(args.scale, paths, args.pairs)

    def row(name):
        facts = done.last.get(name)
        if not facts:
            return {"notebook": name, "status": "missing", "seconds": None, "finished": None}
        new = datetime.fromisoformat(facts["finished"]) >= datetime.fromtimestamp(int(start), UTC)
        return {"notebook": name, "status": "made" if new else "up to date", "seconds": facts["seconds"],
                "finished": facts["finished"]}

    return {"scale": args.scale, "parameters": done.given, "folder": done.folder, "seconds": round(time.time() - start),
            "notebooks": [row(path.stem) for path in paths]}


def show(arguments: list[str]) -> int:
    """Opens the trajectory explorer of results/<scale>; its result is what the page holds."""
    it = console.Parser("show", "Opens the trajectory explorer of results/<scale>.")
    it.add_argument("scale", nargs="?", default="demo")
    it.add_argument("trajectory", nargs="?", help="one of the page, by its name there: PROBLEM/SOURCE/NUMBER")

    def command(args):
        page = ROOT / "results" / args.scale / "explorer.html"
        if not page.is_file():
            if args.scale not in importlib.import_module("heal_lib.scales").names():
                console.results(args.scale)
            scale, changed, _ = args.scale.partition("+")
            raise HealError(f"{page} is not there; run heal reproduce --scale {scale} --only "
                            f"{'08' if scale == 'llm' else '00_tour'}{changed and ' with the settings of that run'}")
        found = []
        if args.json or args.trajectory:
            found = importlib.import_module("heal_lib.plots.explorer").load(page, args.trajectory)
        address = page.as_uri() + (f"#{quote(args.trajectory, safe='')}" if args.trajectory else "")
        if args.json or not webbrowser.open(address):
            print(address)
        return {"page": page, "trajectories": found}, 0

    return console.run(it, command, arguments)


def doctor(arguments: list[str]) -> int:
    """Checks this machine, a line each; exit code 1 if any fails."""
    it = console.Parser("doctor", "Checks Python, packages, torch, GPU, disk, models, fonts and kernel; exit code 1 "
                        "if any fails.")

    def command(args):
        found = importlib.import_module("heal_lib.doctor").examine()
        for line in found:
            print(f"{'ok  ' if line['ok'] else 'MEND'} {line['check']:9} {line['found']}")
        return found, 0 if all(line["ok"] for line in found) else 1

    return console.run(it, command, arguments)


def completion(arguments: list[str]) -> int:
    """completion: prints completion for bash and zsh; eval "$(heal completion)" """
    print(COMPLETION % " ".join(COMMANDS))
    return 0


# A command's options are read off its --help when they are asked for.
COMPLETION = r"""type complete >/dev/null 2>&1 || { autoload -U +X bashcompinit && bashcompinit; }
_heal() {
  local words="%s"
  [ "$COMP_CWORD" = 1 ] ||
    words=$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --help 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u)
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _heal heal"""


def _module(name: str):
    return lambda arguments: importlib.import_module(f"heal_lib.{name}").main(arguments)


TOLD = {
    "reproduce": "every table and figure of a scale (smoke, demo, full, parts, orders, sweep, sweep-registers, llm)",
    "distil": "HEAL on your own problems and models",
    "ablate": "HEAL at several values of a switch",
    "plan": "what fits on a graphics card, and the settings for it",
    "site": "results as a static site",
    "paper": "results as LaTeX, with a two-page summary",
    "bench": "what sampling, scoring and training cost here",
    "show": "the trajectory explorer of some results",
    "doctor": "whether this machine has all it needs",
    "completion": 'completion for bash and zsh: eval "$(heal completion)"',
}
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "reproduce": reproduce, **{name: _module(name) for name in ("distil", "ablate", "plan", "site", "paper", "bench")},
    "show": show, "doctor": doctor, "completion": completion}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code, 2 for one that does not exist."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        print("usage: heal COMMAND ..., of which heal COMMAND --help says more; --json prints its result as JSON\n")
        print(*(f"  {command:12}{told}" for command, told in TOLD.items()), sep="\n")
        return 0
    if name in ("-V", "--version"):
        print(f"heal {version('heal-lib')}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        mend = f"did you mean {near[0]}? " if near else ""
        print(f"heal: unknown command {name!r}; {mend}choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return COMMANDS[name](rest)


if __name__ == "__main__":
    sys.exit(main())
