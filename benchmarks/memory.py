"""What a process holds in memory, as Linux counts it."""

import re
from pathlib import Path
from typing import NamedTuple

MIB = 1 << 20


class Memory(NamedTuple):
    """Bytes."""

    resident: int
    peak: int
    """The most that was ever resident. Not `ru_maxrss`, which begins with the parent's."""

    @classmethod
    def of(cls, pid: int | None = None) -> "Memory":
        """Of a process, by default of this one; one that has ended holds nothing."""
        try:
            status = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return cls(0, 0)
        kibibytes = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE))
        return cls(*(1024 * int(kibibytes.get(name, 0)) for name in ("VmRSS", "VmHWM")))
