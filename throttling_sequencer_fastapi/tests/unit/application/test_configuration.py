"""The configuration of the next search is the one that is kept, else the one that the service was started with."""

import asyncio

import pytest
from throttling_sequencer.application.configuration import CurrentConfiguration
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.genetic_path import GeneticConfiguration

CONFIGURED = GeneticConfiguration(generations=1)
KEPT = GeneticConfiguration(generations=2)
LATER = GeneticConfiguration(generations=3)


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


async def test_until_the_store_was_read_the_service_is_as_it_was_started() -> None:
    assert CurrentConfiguration(CONFIGURED, Store()).value is CONFIGURED


async def test_what_is_kept_replaces_it_and_what_is_deleted_gives_it_back() -> None:
    current = CurrentConfiguration(CONFIGURED, Store(KEPT, KEPT, None))
    assert await current.refresh()
    assert current.value is KEPT
    assert not await current.refresh()
    assert await current.refresh()
    assert current.value is CONFIGURED


async def test_a_store_that_is_away_is_asked_until_it_answers() -> None:
    current = CurrentConfiguration(CONFIGURED, Store(KEPT, StorageUnavailableError("away"), LATER))
    await current.refresh()
    refreshing = asyncio.create_task(current.refresh())
    await asyncio.sleep(0)
    assert current.value is KEPT
    assert await refreshing
    assert current.value is LATER


async def test_a_slow_answer_does_not_undo_a_later_one() -> None:
    """Two changes in a row: the first read began before the second change, and ends after it."""
    store = Store(KEPT, LATER)
    current = CurrentConfiguration(CONFIGURED, store)
    store.may_answer.clear()
    first = asyncio.create_task(current.refresh())
    second = asyncio.create_task(current.refresh())
    await asyncio.sleep(0)
    store.may_answer.set()
    await asyncio.gather(first, second)
    assert current.value is LATER


async def test_what_is_none_of_the_stores_excuses_is_raised() -> None:
    current = CurrentConfiguration(CONFIGURED, Store(ZeroDivisionError(), KEPT))
    with pytest.raises(ZeroDivisionError):
        await current.refresh()
    assert current.value is CONFIGURED
    await current.refresh()
    assert current.value is KEPT
