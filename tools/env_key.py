"""Print the key of an environment: a hash of setup.py, constraints.txt, the Python version and the machine.

Runs on any version of Python, so that an old version prints an error message instead of a syntax error.
"""

import hashlib
import os
import platform
import sys

if sys.version_info < (3, 10):  # noqa: UP036 - an old Python must get this message, not a syntax error
    sys.exit(
        "error: harmonifuse_espnet needs Python 3.10 or newer, but %s is Python %s; "
        "use a newer one: make -C tools BASE_PYTHON=python3.11 ..." % (sys.executable, platform.python_version())
    )
tools = os.path.dirname(os.path.abspath(__file__))
digest = hashlib.sha256(("%s %s" % (sys.version, platform.platform(terse=True))).encode())
for name in ("../setup.py", "constraints.txt"):
    with open(os.path.join(tools, name), "rb") as file:
        digest.update(file.read())
print("py%d.%d-%s" % (sys.version_info[0], sys.version_info[1], digest.hexdigest()[:16]))
