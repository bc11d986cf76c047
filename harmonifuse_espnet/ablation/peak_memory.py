"""Run a command and write down the peak memory of the largest process in it: ``peak_memory.py <file> <command>...``

Linux counts into a process's peak what it held before it became another program: a copy of its parent. So the parent of
a measured command must be small. This script is, since it imports nothing of the package; call it as a file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run the command, write bytes into the file, and end as the command did."""
    file, *command = sys.argv[1:]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)  # the largest of the process and all that it waited for
    process.returncode = os.waitstatus_to_exitcode(status)
    Path(file).write_text(f"{1024 * usage.ru_maxrss}\n", encoding="utf-8")
    sys.exit(process.returncode if process.returncode >= 0 else 128 - process.returncode)


if __name__ == "__main__":
    main()
