"""The command `heal`: reproduce, distil, ablate, plan, site, paper, bench, show, doctor; `heal COMMAND --help` says
more."""

from __future__ import annotations

import importlib
import json
import sys
import webbrowser

from heal_lib.files import ROOT


def show(arguments: list[str]) -> int:
    """show [scale]: opens the trajectory explorer of results/<scale>."""
    scale = next((word for word in arguments if not word.startswith("-")), "demo")
    page = ROOT / "results" / scale / "explorer.html"
    if "--help" in arguments:
        print(show.__doc__)
    elif not page.is_file():
        print(f"heal: {page} is not there; run heal reproduce --scale {scale} --only 00_tour", file=sys.stderr)
        return 2
    elif not webbrowser.open(page.as_uri()):
        print(page)
    return 0


def doctor(arguments: list[str]) -> int:
    """doctor [--json]: checks Python, packages, torch, GPU, disk, models, fonts, kernel; exit code 1 if any fails."""
    if "--help" in arguments:
        print(doctor.__doc__)
        return 0
    found = importlib.import_module("heal_lib.doctor").examine()
    lines = (f"{'ok  ' if line['ok'] else 'MEND'} {line['check']:9} {line['found']}" for line in found)
    print(json.dumps(found, indent=1) if "--json" in arguments else "\n".join(lines))
    return 0 if all(line["ok"] for line in found) else 1


def completion(arguments: list[str]) -> int:
    """completion: prints completion for bash and zsh; eval "$(heal completion)" """
    print(COMPLETION % " ".join(COMMANDS))
    return 0


# A command's options are read off its --help when they are asked for.
COMPLETION = r"""type complete >/dev/null 2>&1 || { autoload -U +X bashcompinit && bashcompinit; }
_heal() {
  local words="%s"
  [ "$COMP_CWORD" = 1 ] || words=$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --help 2>/dev/null | grep -oE -- '--[a-z-]+')
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _heal heal"""


def _module(name: str):
    return lambda arguments: importlib.import_module(f"heal_lib.{name}").main(arguments)


COMMANDS = {**{name: _module(name) for name in ("reproduce", "distil", "ablate", "plan", "site", "paper", "bench")},
            "show": show, "doctor": doctor, "completion": completion}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code, 2 for one that does not exist."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__)
        return 0
    if name not in COMMANDS:
        print(f"heal: unknown command {name!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return COMMANDS[name](rest)


if __name__ == "__main__":
    sys.exit(main())
