"""`embargo score --engine ray`: the rows of the local engine, whatever dies on the way."""

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster as RayCluster
from typer.testing import CliRunner

from serving.errors import EmbargoError, ScoreError
from serving.results import Analysis, Document
from serving.score import crew
from serving.score.cluster import Cluster, score_on_ray
from serving.score.job import ScoreJob
from serving.score.parts import Cut, Part
from serving.score.run import Engine, Outcome, run_score
from serving.score.scoring import Scored
from serving.score.worker import Worker
from tests.corpora import Runs, documents, read_rows, rejects, write_corpus
from tests.kill_loop import contents, kill_loop, killed_at_an_operation
from training.cli import app

# Ray leaves its processes and log files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CUT = Cut(rows=5)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayCluster]:
    """A head that reads nothing, and three nodes with one CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = RayCluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(3):
                cluster.add_node(num_cpus=1, wait=False)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.shutdown()


class RayRuns:
    """Runs of the tiny model on a cluster."""

    def __init__(self, runs: Runs, cluster: Cluster) -> None:
        self.local = runs
        self.cluster = cluster

    def engine(self, job: ScoreJob) -> Engine:
        def run(parts: Iterator[Part]) -> Generator[Scored]:
            yield from score_on_ray(
                parts, self.cluster, self.local.folder, job.options, self.local.view.piece
            )

        return run

    def __call__(self, *inputs: Path, to: Path, **asked: Any) -> Outcome:
        job = ScoreJob(inputs=[str(given) for given in inputs], output=str(to), **asked)
        return run_score(job, self.local.folder, self.engine(job), self.local.view)


@pytest.fixture
def on_ray(runs: Runs, ray_cluster: RayCluster) -> RayRuns:
    return RayRuns(runs, Cluster(ray_cluster.address))


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """With a copy in one part, and lines that are no documents."""
    rows: list[Any] = documents(60)
    rows[7:7] = [{**rows[6], "id": "copy"}, {"text": ""}]
    return write_corpus(tmp_path / "a.jsonl", [*rows, {"text": 5}])


def test_a_node_that_dies_costs_no_row_and_doubles_none(
    on_ray: RayRuns,
    stories: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    once = tmp_path / "killed"

    class KillsItsNode(Worker):
        """The first to read something takes its node with it."""

        def read(self, documents: Sequence[Document]) -> list[Analysis]:
            try:
                once.touch(exist_ok=False)
            except FileExistsError:
                return super().read(documents)
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    monkeypatch.setattr(crew, "Worker", KillsItsNode)
    asked = {"cut": CUT, "spans": None}
    local = on_ray.local(stories, to=tmp_path / "local.jsonl", **asked)
    on_ray.local.view.read = 0
    outcome = on_ray(stories, to=tmp_path / "ray.jsonl", **asked)
    assert once.exists()
    assert [record for record in caplog.records if "a worker was lost" in record.message]
    assert outcome.counts == local.counts
    assert on_ray.local.view.read == 61  # each text once, though some were begun twice
    assert read_rows(tmp_path / "ray.jsonl") == read_rows(tmp_path / "local.jsonl")
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    assert [r["position"] for r in rejects(tmp_path / "ray.jsonl")] == [
        r["position"] for r in rejects(tmp_path / "local.jsonl")
    ]


def test_a_document_that_kills_its_workers_is_a_reject(
    on_ray: RayRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mortal(Worker):
        """Dies of one document."""

        def read(self, documents: Sequence[Document]) -> list[Analysis]:
            if any(document.id == "d7" for document in documents):
                os._exit(1)
            return super().read(documents)

    monkeypatch.setattr(crew, "Worker", Mortal)
    corpus = write_corpus(tmp_path / "a.jsonl", documents(12))
    outcome = on_ray(corpus, to=tmp_path / "ray.jsonl", cut=Cut(rows=4))
    assert (outcome.counts.written, outcome.counts.rejected) == (11, 1)
    assert [(r["id"], r["reason"]) for r in rejects(tmp_path / "ray.jsonl")] == [("d7", "killed_worker")]
    assert [row["id"] for row in read_rows(tmp_path / "ray.jsonl")] == [f"d{n}" for n in range(12) if n != 7]


def test_workers_that_die_of_everything_end_the_run(
    on_ray: RayRuns, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doomed(Worker):
        def read(self, documents: Sequence[Document]) -> list[Analysis]:
            os._exit(1)

    monkeypatch.setattr(crew, "Worker", Doomed)
    monkeypatch.setattr(crew, "_DEATHS_IN_A_ROW", 2)
    with pytest.raises(ScoreError, match="workers died one after the other"):
        on_ray(stories, to=tmp_path / "o.jsonl", cut=CUT)
    assert not ray.is_initialized()
    assert Path(tmp_path, "o.jsonl.work", "run.json").exists()


def test_a_node_that_lacks_something_is_refused(
    on_ray: RayRuns, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NotInstalled(Worker):
        def __init__(self, *_: Any) -> None:
            raise ModuleNotFoundError("No module named 'onnxruntime'")

    monkeypatch.setattr(crew, "Worker", NotInstalled)
    with pytest.raises(ScoreError, match=r"No module named 'onnxruntime'.*pip install") as raised:
        on_ray(stories, to=tmp_path / "o.jsonl", cut=CUT)
    assert "\n" not in str(raised.value)


def test_a_node_with_other_versions_is_refused(
    on_ray: RayRuns, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Older(Worker):
        def software(self) -> dict[str, str]:
            return {**super().software(), "numpy": "1.0"}

    monkeypatch.setattr(crew, "Worker", Older)
    with pytest.raises(ScoreError, match=r"other versions \(.*numpy 1\.0.*pip install"):
        on_ray(stories, to=tmp_path / "o.jsonl", cut=CUT)


def test_a_worker_that_no_node_has_room_for_is_refused(
    runs: Runs, ray_cluster: RayCluster, stories: Path, tmp_path: Path
) -> None:
    with pytest.raises(ScoreError, match="no node of the cluster has 2 CPUs"):
        RayRuns(runs, Cluster(ray_cluster.address, threads=2))(stories, to=tmp_path / "o.jsonl")


def test_a_killed_run_goes_on_and_leaves_what_an_undisturbed_one_leaves(
    tiny_folder: Path, ray_cluster: RayCluster, stories: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    arguments = ["score", str(stories), "-o", str(folder / "o.jsonl.gz"), "--model", str(tiny_folder)]
    arguments += ["--engine", "ray", "--address", ray_cluster.address, "--part-rows", "5"]
    assert kill_loop(folder, arguments, killed_at_an_operation(folder, most=120), kills=2, seed=3) >= 1
    assert "o.jsonl.gz.rejects.jsonl" in contents(folder)


def test_a_run_that_one_engine_began_another_ends(on_ray: RayRuns, stories: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "w.jsonl", tmp_path / "o.jsonl"
    on_ray.local(stories, to=whole, cut=CUT)

    def cut_off(parts: Iterator[Part]) -> Generator[Scored]:
        for number, scored in enumerate(on_ray.local.engine(ScoreJob([], ""))(parts)):
            if number == 2:
                raise KeyboardInterrupt
            yield scored

    job = ScoreJob(inputs=[str(stories)], output=str(out), cut=CUT)
    with pytest.raises(KeyboardInterrupt):
        run_score(job, on_ray.local.folder, cut_off, on_ray.local.view)
    assert on_ray(stories, to=out, cut=CUT).before.read == 10
    assert out.read_bytes() == whole.read_bytes()


def test_on_this_machine_alone_without_an_address(
    tiny_folder: Path, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    command = ["score", str(stories), "-o", str(tmp_path / "o.parquet"), "--model", str(tiny_folder)]
    result = CliRunner().invoke(app, [*command, "--engine", "ray", "--workers", "1"])
    assert result.exit_code == 3, result.output
    assert result.stdout == ""
    assert "read 63 = written 61 + rejected 2" in result.stderr
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--engine", "ray", "-o", "-"], "name an output file"),
        (["--address", "auto", "-o", "o.jsonl"], "give --engine ray"),
        (["--workers", "2", "-o", "o.jsonl"], "give --engine ray"),
        (
            ["--engine", "ray", "--address", "127.0.0.1:9", "-o", "o.jsonl"],
            "no Ray cluster answers at 127.0.0.1:9",
        ),
        (
            ["--engine", "ray", "--address", "local", "-o", "o.jsonl"],
            "'local' is no address of a Ray cluster; expected HOST:6379 or auto",
        ),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    tiny_folder: Path,
    stories: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["score", str(stories), "--model", str(tiny_folder), *asked])
    assert isinstance(result.exception, EmbargoError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_who_lacks_ray_is_told_how_to_get_it(
    tiny_folder: Path, stories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.score.extra.find_spec", lambda name: None)
    command = ["score", str(stories), "-o", "o.jsonl", "--model", str(tiny_folder), "--engine", "ray"]
    result = CliRunner().invoke(app, command)
    assert "pip install -c constraints.txt -e '.[cluster]'" in str(result.exception)
