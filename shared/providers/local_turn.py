"""`python -m shared.providers.local_turn RUN_DIR ENTRY`: waits for its devices, then becomes the trainer.

Started with two descriptors. LIFE holds `alive.lock` of the run directory and stays open as long as this
process lives, also as the trainer; PLACE holds its place in the line and is given up with the turn. So is the
entry: a run whose entry is still there never had its turn.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from shared.providers.local_line import wait_for_devices

LIFE, PLACE = 3, 4


def main() -> None:
    """Does not return."""
    run_dir, entry = sys.argv[1], Path(sys.argv[2])
    count = json.loads(Path(run_dir, "spec.json").read_bytes()).get("gpu_count", 1)
    devices = wait_for_devices(entry, count)
    entry.unlink(missing_ok=True)
    os.close(PLACE)
    os.set_inheritable(LIFE, True)
    for device in devices:
        os.set_inheritable(device.lock, True)
    names = [device.name for device in devices]
    only = {} if names == ["this"] else {"CUDA_VISIBLE_DEVICES": ",".join(names)}
    command = [sys.executable, "-m", "modal_app.run", run_dir]
    os.execve(command[0], command, os.environ | only)


if __name__ == "__main__":
    main()
