"""The configuration of the next search is the one that is kept, else the one that the service was started with."""

import asyncio

from throttling_sequencer.application.configuration import CurrentConfiguration
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.genetic_path import GeneticConfiguration

CONFIGURED = GeneticConfiguration(generations=1)
KEPT = GeneticConfiguration(generations=2)
LATER = GeneticConfiguration(generations=3)


class Told:
    """Notes what operators hear."""

    def __init__(self) -> None:
        self.sources: list[str] = []

    def changed(self, *, is_kept: bool) -> None:
        self.sources.append("kept" if is_kept else "configured")

    def failed(self, error: Exception) -> None:
        self.sources.append(type(error).__name__)


class Store:
    """Answers as it is told to, once it is let."""

    def __init__(self, *answers: GeneticConfiguration | Exception | None) -> None:
        self.answers = list(answers)
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def default_configuration(self) -> GeneticConfiguration | None:
        answer = self.answers.pop(0)
        await self.may_answer.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


def current(store: Store, told: Told | None = None) -> CurrentConfiguration:
    return CurrentConfiguration(CONFIGURED, store, told or Told())


async def test_until_the_store_was_read_the_service_is_as_it_was_started() -> None:
    assert current(Store()).value is CONFIGURED


async def test_what_is_kept_replaces_it_and_what_is_deleted_gives_it_back() -> None:
    configuration = current(Store(KEPT, KEPT, None), told := Told())
    await configuration.refresh()
    assert configuration.value is KEPT
    await configuration.refresh()
    await configuration.refresh()
    assert configuration.value is CONFIGURED
    assert told.sources == ["kept", "configured"]


async def test_a_store_that_is_away_is_asked_until_it_answers() -> None:
    away = StorageUnavailableError("away")
    configuration = current(store := Store(KEPT, away, away, LATER))
    async with configuration.kept_fresh():
        await configuration.refresh()
        await configuration.refresh()
        # What was known holds, and nobody waits.
        assert configuration.value is KEPT
        async with asyncio.timeout(5):
            while configuration.value is not LATER:
                await asyncio.sleep(0.01)
    assert store.answers == []


async def test_nobody_asks_once_the_service_has_ended() -> None:
    configuration = current(store := Store(StorageUnavailableError("away"), KEPT))
    async with configuration.kept_fresh():
        await configuration.refresh()
    await asyncio.sleep(0.3)
    assert store.answers == [KEPT]


async def test_a_slow_answer_does_not_undo_a_later_one() -> None:
    """Two changes in a row: the first read began before the second change, and ends after it."""
    configuration = current(store := Store(KEPT, LATER))
    of_the_first = store.may_answer
    of_the_first.clear()
    first = asyncio.create_task(configuration.refresh())
    await asyncio.sleep(0)
    store.may_answer = asyncio.Event()
    store.may_answer.set()
    await configuration.refresh()
    assert configuration.value is LATER
    of_the_first.set()
    await first
    assert configuration.value is LATER


async def test_whatever_keeps_it_from_being_read_is_told_and_tried_again() -> None:
    configuration = current(Store(ZeroDivisionError(), ZeroDivisionError(), KEPT), told := Told())
    async with configuration.kept_fresh():
        await configuration.refresh()
        assert configuration.value is CONFIGURED
        async with asyncio.timeout(5):
            while configuration.value is not KEPT:
                await asyncio.sleep(0.01)
    assert told.sources == ["ZeroDivisionError", "ZeroDivisionError", "kept"]
