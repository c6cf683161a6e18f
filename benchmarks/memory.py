"""What a process holds in memory, as Linux counts it."""

import re
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Megabytes (2**20 bytes)."""

    resident: int
    peak: int
    """The most that was ever resident."""

    @classmethod
    def now(cls) -> "Memory":
        """Of this process."""
        status = Path("/proc/self/status").read_text(encoding="ascii")
        kilobytes = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE))
        return cls(int(kilobytes["VmRSS"]) // 1024, int(kilobytes["VmHWM"]) // 1024)
