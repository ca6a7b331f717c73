"""Write `run-v<schema version>` beside this file: a small finished run that every later version must open.

Run it once when the schema version goes up, and never again for that version.
"""

import shutil
from pathlib import Path

import gnothi
from gnothi.records import SCHEMA_VERSION

FOLDER = Path(__file__).parent / f"run-v{SCHEMA_VERSION}"

if __name__ == "__main__":
    gnothi.run(
        model="scripted/oracle",
        out=FOLDER,
        engine="inline",
        quick=True,
        domain="paper",
        agents=4,
        untrained_agents=2,
        fresh=40,
        native_choices=10,
        repeats=1,
        report_training=False,
    )
    for name in ("figures", "report.html", "run.log"):  # made anew from the rest, or of no use
        path = FOLDER / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
