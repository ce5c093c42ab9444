"""Runs a command that ends only when it is told to, and tells it so once it says that it has started."""

from __future__ import annotations

import subprocess
import sys

with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if "page_ready" in line or "whether there is reason to train" in line:
            process.terminate()
sys.exit(process.returncode)
