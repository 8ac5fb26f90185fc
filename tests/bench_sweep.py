"""What a sweep adds to the runs themselves: `python tests/bench_sweep.py`, two minutes on two cores.

Two measurements, on a cluster of this machine: a thousand tasks that do nothing, and a chapter of twenty
seconds, run eight times by `Sweep` and once by `run_chapters`. The result is stored beside this file, in
`bench_sweep.json`, with the machine, the versions and the load that others put on it."""

import json
import os
import platform
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean

import nbformat

from lla_course.core import write_atomic
from lla_course.course.cluster import Cluster
from lla_course.course.runner import cpu_count, find_chapters, run_chapters
from lla_course.course.sweep import Sweep, _start_run

SECONDS, RUNS, TASKS = 20, 8, 1000


def idle_tasks(jobs):
    "Seconds for tasks that do nothing: after the first, when processes are there."
    start = time.perf_counter()
    cluster = Cluster(None, None, jobs)
    ready = time.perf_counter()
    times = []
    for _, future in cluster.share([(abs, -i) for i in range(TASKS)], (_start_run, ""), scratch=True):
        future.result()
        times.append(time.perf_counter())
    cluster.close()
    return dict(cluster_starts=ready - start, first_task=times[0] - ready, others=times[-1] - times[0])


def sleeping_chapter(jobs):
    "A chapter that sleeps: by the runner alone, and in a sweep; seconds."
    with tempfile.TemporaryDirectory() as folder:
        code = nbformat.v4.new_code_cell
        cells = [
            code("seed = 0", metadata={"tags": ["parameters"]}),
            code(f"import time\ntime.sleep({SECONDS})"),
        ]
        path = Path(folder, "nbs", "07_sleep.ipynb")
        path.parent.mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        (chapter,) = find_chapters(folder)
        (alone,) = run_chapters([chapter], jobs=1, root=folder, out=Path(folder, "alone"))
        start = time.perf_counter()
        sweep = Sweep(chapter, {"seed": list(range(RUNS))}, out=Path(folder, "out"), root=folder, jobs=jobs)
        ready = time.perf_counter()
        rows = [(row["seconds"], time.perf_counter()) for row in sweep.run()]
        end = time.perf_counter()
    first, last = min(at for _, at in rows), max(at for _, at in rows)
    per_run = (last - first) / (RUNS - jobs) * jobs  # from the first answer to the last: no start, no end
    return dict(
        runner_alone=alone.seconds,
        within_a_run=mean(seconds for seconds, _ in rows),
        per_run_of_the_sweep=per_run,
        whole_sweep=end - start,
        sweep_starts=ready - start,
        first_run=first - ready,
        sweep_ends=end - last,
    )


if __name__ == "__main__":
    jobs = min(2, cpu_count())
    before = os.getloadavg()[0]
    idle, chapter = idle_tasks(jobs), sleeping_chapter(jobs)
    added = chapter["per_run_of_the_sweep"] - chapter["runner_alone"]
    result = dict(
        tasks=TASKS,
        milliseconds_per_idle_task=1e3 * idle["others"] / (TASKS - 1),
        idle=idle,
        chapter_sleeps=SECONDS,
        chapter=chapter,
        share_added_to_the_runner=added / SECONDS,
        share_with_the_kernel=(chapter["per_run_of_the_sweep"] - SECONDS) / SECONDS,
        jobs=jobs,
        machine=f"{platform.machine()}, {cpu_count()} cores",
        load_before_and_after=[before, os.getloadavg()[0]],
        versions={name: version(name) for name in ("distributed", "papermill", "pyarrow")},
        date=datetime.now(UTC).date().isoformat(),
    )
    plain = json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 4))
    write_atomic(Path(__file__).with_suffix(".json"), json.dumps(plain, indent=1) + "\n")
    print(json.dumps(plain, indent=1))
