"""A run of the fake trainer with the view that its terminal gets: `python -m tests.doctor.train.live_run FOLDER LANG`."""

import sys
from pathlib import Path

from doctor.train import run_directory
from doctor.train.session import Session
from doctor.train.view import open_view
from tests.doctor.train import runs

root = Path(sys.argv[1])
target = runs.make(root, steps=40, step_seconds=0.25, save_steps=10)
directory = run_directory.create(target.workdir)
view = open_view(sys.argv[2])
try:
    ended = Session(target, runs.facts(target), directory, view).run()
finally:
    view.close()
print(f"code {ended.code}", flush=True)
