"""A fresh process that imports the engine, loads a model, answers once, then waits.

    python -m benchmarks.first_answer FOLDER SECONDS

prints how long each took as JSON, and which share of a CPU it used while it waited.
benchmarks/start.py runs it.
"""

import json
import sys
import time

_TEXT = "The ministry said on Monday that the port stays closed."


def first_answer(folder: str, idle_seconds: float) -> dict[str, float]:
    """Seconds from one step to the next, and the share of a CPU taken while idle."""
    laps = [time.perf_counter()]
    from serving.analyzer import Analyzer  # this import is what is measured
    from serving.model_folder import ModelFolder
    from serving.results import Document

    laps.append(time.perf_counter())
    analyzer = Analyzer.load(ModelFolder.open(folder))
    laps.append(time.perf_counter())
    analyzer.analyze([Document(_TEXT)])
    laps.append(time.perf_counter())
    used = time.process_time()
    time.sleep(idle_seconds)
    return {
        "import_s": laps[1] - laps[0],
        "load_s": laps[2] - laps[1],
        "import_to_ready_s": laps[2] - laps[0],
        "first_answer_s": laps[3] - laps[2],
        "idle_cpu": (time.process_time() - used) / idle_seconds,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(first_answer(sys.argv[1], float(sys.argv[2]))))
