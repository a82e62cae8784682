"""The files of several workers, read by one of them."""

import fcntl
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from api_server.exceptions import StartError
from api_server.metric_files import FOLDER_VARIABLE, MetricFiles, merged, shared_metrics
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key

LIMITS = ("1.0", "10.0", "+Inf")


class Workers:
    """Files as workers write them; one lives for as long as the lock of its file is held."""

    def __init__(self, folder: Path, living: ExitStack) -> None:
        self.folder = folder
        self._living = living
        self.files = MetricFiles(folder)

    def add(self, pid: int, *, lives: bool) -> None:
        file = self._living.enter_context((self.folder / f"{pid}.worker").open("ab"))
        if lives:
            fcntl.flock(file, fcntl.LOCK_EX)

    def write(self, file: str, name: str, value: float, **labels: str) -> None:
        values = MmapedDict(str(self.folder / f"{file}.db"))  # type: ignore[no-untyped-call]  # it has no types
        family = name.removesuffix("_total").removesuffix("_bucket").removesuffix("_sum")
        key = mmap_key(family, name, [*labels], [*labels.values()], "What it is.")
        values.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]  # as above
        values.close()  # type: ignore[no-untyped-call]  # as above

    def read(self) -> tuple[list[int], dict[str, float]]:
        living, metrics = self.files.read()
        return living, told(metrics)


def told(metrics: list[Metric]) -> dict[str, float]:
    return {
        f"{sample.name}{''.join(sample.labels.values())}": sample.value
        for metric in metrics
        for sample in metric.samples
    }


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with ExitStack() as living:
        workers = Workers(tmp_path, living)
        living.callback(workers.files._own.close)
        yield workers


def test_counters_and_histograms_are_added_up_and_gauges_as_their_mode_says(workers: Workers) -> None:
    for number, pid in enumerate((11, 12), 1):
        workers.add(pid, lives=True)
        workers.write(f"counter_{pid}", "orders_total", number, size="large")
        workers.write(f"gauge_livesum_{pid}", "waiting", number)
        workers.write(f"gauge_livemax_{pid}", "highest", number)
        for limit, found in zip(LIMITS, (number, 0, 10), strict=True):
            workers.write(f"histogram_{pid}", "prices_bucket", found, le=limit)
        workers.write(f"histogram_{pid}", "prices_sum", number)
    living, numbers = workers.read()
    assert living == [11, 12, os.getpid()]
    assert numbers == {
        "orders_totallarge": 3,
        "waiting": 3,
        "highest": 2,
        "prices_bucket1.0": 3,
        "prices_bucket10.0": 3,
        "prices_bucket+Inf": 23,
        "prices_count": 23,
        "prices_sum": 3,
    }


def test_what_the_dead_counted_stays_and_their_gauges_and_files_go(workers: Workers) -> None:
    workers.add(12, lives=True)
    workers.write("counter_12", "orders_total", 1)
    for number in range(3):
        pid = 20 + number
        workers.add(pid, lives=False)
        workers.write(f"counter_{pid}", "orders_total", 10)
        workers.write(f"histogram_{pid}", "prices_bucket", 1, le="1.0")
        workers.write(f"gauge_livesum_{pid}", "waiting", 5)
        assert workers.read() == (
            [12, os.getpid()],
            {
                "orders_total": 11 + 10 * number,
                "prices_bucket1.0": number + 1,
                "prices_count": number + 1,
                "service_worker_deaths_total": number + 1,
            },
        )
    assert sorted(file.name for file in workers.folder.glob("*.db")) == [
        "counter_12.db",
        "counter_gone.db",
        "histogram_gone.db",
    ]
    # A process id may be used again: what its former owner counted stays counted.
    workers.add(20, lives=True)
    workers.write("counter_20", "orders_total", 1)
    assert workers.read()[1]["orders_total"] == 32


def test_a_worker_that_leaves_is_none_that_died(workers: Workers) -> None:
    workers.add(20, lives=False)
    workers.write("counter_20", "orders_total", 1)
    (workers.folder / "20.worker").write_bytes((workers.folder / f"{os.getpid()}.worker").read_bytes())
    assert workers.read()[1] == {"orders_total": 1, "service_worker_deaths_total": 1}
    workers.files.leave()
    workers.add(21, lives=False)
    (workers.folder / "21.worker").write_bytes((workers.folder / f"{os.getpid()}.worker").read_bytes())
    assert workers.read()[1] == {"orders_total": 1, "service_worker_deaths_total": 1}


def test_a_folder_that_was_removed_is_made_again_for_who_begins_and_refused_to_who_lives(workers: Workers) -> None:
    shutil.rmtree(workers.folder)
    with pytest.raises(FileNotFoundError):
        workers.read()
    new = MetricFiles(workers.folder)
    assert new.read() == ([os.getpid()], [])
    new._own.close()


def test_the_launcher_tells_when_it_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    before = time.time()
    with shared_metrics(2):
        files = MetricFiles(Path(os.environ[FOLDER_VARIABLE]))
        assert before <= (files.started_at or 0) <= time.time()
        files._own.close()
    assert files.started_at is None


def test_what_is_not_a_number_counts_only_where_nothing_is(workers: Workers) -> None:
    workers.write("gauge_livemax_11", "timeline", math.nan)
    assert math.isnan(told(merged(workers.folder.glob("*.db")))["timeline"])
    workers.write("gauge_livemax_12", "timeline", 3)
    workers.write("gauge_livemax_13", "timeline", math.nan)
    assert told(merged(workers.folder.glob("*.db"))) == {"timeline": 3}


def test_a_file_that_is_just_being_made_is_empty(workers: Workers) -> None:
    (workers.folder / "counter_11.db").touch()
    assert workers.read()[1] == {}


def test_several_workers_have_a_folder_for_as_long_as_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with shared_metrics(1):
        assert FOLDER_VARIABLE not in os.environ
    with suppress(KeyboardInterrupt), shared_metrics(2):
        folder = Path(os.environ[FOLDER_VARIABLE])
        (folder / "counter_1.db").touch()
        raise KeyboardInterrupt
    assert not folder.exists()
    assert FOLDER_VARIABLE not in os.environ


def test_the_folder_lies_where_an_operator_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with shared_metrics(2):
        assert Path(os.environ[FOLDER_VARIABLE]).parent == tmp_path
    assert os.environ[FOLDER_VARIABLE] == str(tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(StartError, match=r"Set PROMETHEUS_MULTIPROC_DIR to a folder that can be written"):
        shared_metrics(2).__enter__()
