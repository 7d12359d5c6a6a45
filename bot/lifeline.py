"""Run a module as a child that never outlives the process that started it.

    python -m visavis.bot.lifeline MODULE [ARGUMENT ...]

Standard input is the lifeline: the supervisor holds its other end and never writes. When it ends, the supervisor is
gone without a drain (kill -9), and this process leaves at once, so that the next start finds the port and the model
socket free. Works on every POSIX system; knows nothing of the module it runs.
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
import threading


def _leave_when_stdin_ends() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Watch the lifeline from a daemon thread and become the module; leave without the interpreter's own teardown,
    which takes seconds once torch is loaded and has nothing left to do after an orderly end."""
    module, *arguments = sys.argv[1:]
    threading.Thread(target=_leave_when_stdin_ends, name="lifeline", daemon=True).start()
    sys.argv = [module, *arguments]
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        code = leaving.code
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
