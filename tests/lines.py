"""Which lines of heal_lib the tests run: results/reliability/coverage.json from the report of `coverage json`.

    python tests/lines.py REPORT
"""

import json
import sys
from pathlib import Path

import reliability


def figures(report):
    """{share of lines run, lines, modules: {module: {share, and the lines that were not run}}}; what a test's own copy
    of the library adds to it is left out."""
    ours = {file: one for file, one in report["files"].items() if file.startswith("heal_lib/")}
    modules = {file.removeprefix("heal_lib/"): {"share": round(one["summary"]["percent_covered"] / 100, 3),
                                                "not_run": one["missing_lines"]} for file, one in ours.items()}
    lines, run = (sum(one["summary"][what] for one in ours.values()) for what in ("num_statements", "covered_lines"))
    return {**reliability.dated(), "lines": lines, "run": run, "share": round(run / lines, 3), "modules": modules}


if __name__ == "__main__":
    found = figures(json.loads(Path(sys.argv[1]).read_text()))
    (reliability.FIGURES / "coverage.json").write_text(json.dumps(found, indent=1).replace("\n    ", " ") + "\n")
    print(f"{found['share']:.1%} of {found['lines']} lines")
