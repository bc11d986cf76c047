"""Run a command and write the peak memory of its largest process: ``peak_memory.py <file> <command>...``

On Linux, the peak of a process includes the memory of the parent that it was forked from, so the parent of a measured
command must be small. This script imports nothing from the package; call it as a file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run the command, write its peak memory in bytes, and exit with its status."""
    file, *command = sys.argv[1:]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)  # the maximum over the process and the descendants that it waited for
    process.returncode = os.waitstatus_to_exitcode(status)
    Path(file).write_text(f"{1024 * usage.ru_maxrss}\n", encoding="utf-8")
    sys.exit(process.returncode if process.returncode >= 0 else 128 - process.returncode)


if __name__ == "__main__":
    main()
