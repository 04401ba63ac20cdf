"""What only this machine can do to a container's first process: send it any signal at once, and see what it holds."""

import os
import re
import signal
import subprocess
from pathlib import Path

from plumbing.contract.containers import Running, Server


def kill(running: Running, number: signal.Signals) -> None:
    """Send a signal to its first process, at once where that is allowed."""
    assert running.process, "it was done before it could be asked for its process"
    try:
        os.kill(running.process, number)
    except (PermissionError, ProcessLookupError):
        command = ["docker", "kill", "--signal", number.name, running.identity]
        subprocess.run(command, check=False, capture_output=True)


def memory(server: Server) -> int:
    """Bytes that its process holds."""
    status = Path(f"/proc/{server.running.process}/status")
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())
    return int(kilobytes) * 1024
