"""How many threads a runtime takes where nobody says: as many as torch takes, or would."""

import os
import sys
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")


def default_threads() -> int:
    """torch's own number where it is loaded, else OMP_NUM_THREADS, else one for each core that this process may use."""
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(said) if said.isdigit() and int(said) else len(_cores())


def set_default_threads(count: int) -> None:
    """Let what this process opens from now on take so many."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)


def _cores() -> set[str]:
    """Cores, each by its first CPU: two threads that share one have no use for two."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    found = set()
    for cpu in usable:
        siblings = _CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        found.add(siblings.read_text(encoding="ascii").strip() if siblings.is_file() else str(cpu))
    return found
