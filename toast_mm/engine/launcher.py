"""Ending with the launcher."""

from __future__ import annotations

import os
import signal
import threading
import time


def end_with_launcher(grace: float = 20.0) -> None:
    """Let this process end when the process that started it has ended.

    Otherwise a process of a distributed training runs on, or waits for ever for others, when
    ``torchrun`` is killed. A thread looks every second. It sends SIGTERM to this process, so that a
    training saves (``toast_mm.PreemptionHook``), and later ends it in any case.

    Args:
        grace: Seconds between the two. Defaults to 20.
    """
    threading.Thread(target=_watch, args=(os.getppid(), grace), daemon=True).start()


def _watch(launcher: int, grace: float) -> None:
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(128 + signal.SIGTERM)
