"""Which lines of heal_lib the tests run: results/reliability/coverage.json from the report of `coverage json`.

    python tests/lines.py REPORT
"""

import json
import sys
from pathlib import Path

import reliability


def figures(report):
    """{share of lines run, lines, modules: {module: {share, and the lines that were not run}}}."""
    modules = {file.removeprefix("heal_lib/"): {"share": round(one["summary"]["percent_covered"] / 100, 3),
                                                "not_run": one["missing_lines"]}
               for file, one in report["files"].items()}
    total = report["totals"]
    return {**reliability.dated(), "lines": total["num_statements"], "run": total["covered_lines"],
            "share": round(total["percent_covered"] / 100, 3), "modules": modules}


if __name__ == "__main__":
    found = figures(json.loads(Path(sys.argv[1]).read_text()))
    (reliability.FIGURES / "coverage.json").write_text(json.dumps(found, indent=1).replace("\n    ", " ") + "\n")
    print(f"{found['share']:.1%} of {found['lines']} lines")
