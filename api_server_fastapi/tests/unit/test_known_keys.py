"""How the keys of a provider are kept, whatever becomes of the provider (F21)."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from api_server.exceptions import IdentityUnavailableError
from api_server.identity.jwks import KnownKeys
from api_server.identity.provider import ProviderError
from forged_tokens import key
from joserfc.jwk import Key, import_key
from structlog.testing import capture_logs

A, B = key("a", "P-256"), key("b", "P-256")
DAY_S = 24 * 3600


class Fetches:
    """Fetches of which a test says what they give, and when they end."""

    def __init__(self, *keys: Key) -> None:
        self.gives = keys
        self.fails = ""
        self.number = 0
        self.time = 1000.0
        self.may_end = asyncio.Event()
        self.may_end.set()

    def clock(self) -> float:
        return self.time

    async def __call__(self) -> Mapping[str, Key]:
        self.number += 1
        await self.may_end.wait()
        if self.fails:
            raise ProviderError(self.fails)
        return {str(each.kid): each for each in self.gives}


@pytest.fixture
def fetches() -> Fetches:
    return Fetches(A)


@pytest.fixture
async def keys(fetches: Fetches) -> AsyncIterator[KnownKeys]:
    known = KnownKeys(fetches, fetches.clock)
    yield known
    await known.aclose()


async def settle() -> None:
    """Let what goes on in the background go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_set_is_fetched_when_it_is_needed_and_once_for_all_who_wait(fetches: Fetches, keys: KnownKeys) -> None:
    assert fetches.number == 0
    assert await asyncio.gather(*(keys.key("a") for _ in range(100))) == [A] * 100
    assert fetches.number == 1


async def test_ten_thousand_unknown_ids_cost_one_fetch_in_ten_seconds(fetches: Fetches, keys: KnownKeys) -> None:
    await keys.key("a")
    for second in range(10):
        fetches.time = 1010.0 + second
        assert await asyncio.gather(*(keys.key(f"{second}-{number}") for number in range(1000))) == [None] * 1000
        assert fetches.number == 2
    fetches.time += 1.0
    await keys.key("nobody")
    assert fetches.number == 3


async def test_nor_do_they_where_the_provider_never_answered(fetches: Fetches, keys: KnownKeys) -> None:
    fetches.fails = "it is down"
    for _ in range(1000):
        with pytest.raises(IdentityUnavailableError):
            await keys.key("a")
    assert fetches.number == 1
    fetches.fails, fetches.time = "", fetches.time + 10
    assert await keys.key("a") is A


async def test_a_new_key_is_found_after_a_cool_down_at_most(fetches: Fetches, keys: KnownKeys) -> None:
    await keys.key("a")
    fetches.gives = (A, B)
    fetches.time += 9.9
    assert await keys.key("b") is None
    fetches.time += 0.1
    assert await keys.key("b") is B


async def test_after_five_minutes_a_set_is_fetched_again_and_nobody_waits_for_it(
    fetches: Fetches, keys: KnownKeys
) -> None:
    await keys.key("a")
    fetches.time += 300
    assert await keys.key("a") is A
    await settle()
    assert fetches.number == 1
    fetches.may_end.clear()
    fetches.time += 1
    assert keys.known("a") is A
    assert await keys.key("a") is A
    await settle()
    assert fetches.number == 2
    fetches.may_end.set()


async def test_a_key_that_is_revoked_is_not_known_after_that(fetches: Fetches, keys: KnownKeys) -> None:
    await keys.key("a")
    fetches.gives = (B,)
    fetches.time += 301
    assert await keys.key("a") is A
    await settle()
    assert await keys.key("a") is None
    assert await keys.key("b") is B


async def test_a_key_that_is_replaced_under_its_id_is_another_one(fetches: Fetches, keys: KnownKeys) -> None:
    first, same, other = import_key(A.as_dict()), import_key(A.as_dict()), key("a", "P-384")
    fetches.gives = (first,)
    assert await keys.key("a") is first
    fetches.gives = (same,)
    fetches.time += 301
    await keys.key("a")
    await settle()
    assert keys.known("a") is first
    fetches.gives = (other,)
    fetches.time += 301
    await keys.key("a")
    await settle()
    assert keys.known("a") is other


async def test_known_keys_go_on_for_a_day_without_the_provider_and_no_longer(fetches: Fetches, keys: KnownKeys) -> None:
    await keys.key("a")
    fetches.fails = "it is down"
    for hours in (1, 12, 24):
        fetches.time = 1000.0 + hours * 3600
        assert await keys.key("a") is A
        await settle()
        assert await keys.key("unknown") is None
    fetches.time = 1000.0 + DAY_S + 11
    with pytest.raises(IdentityUnavailableError):
        await keys.key("a")
    fetches.fails, fetches.time = "", fetches.time + 10
    assert await keys.key("a") is A


async def test_what_is_wrong_is_told_once_and_its_end(fetches: Fetches, keys: KnownKeys) -> None:
    with capture_logs() as lines:
        for fails in ("", "it is down", "it is down", "it answers no JSON", "", ""):
            fetches.fails = fails
            fetches.time += 301
            await keys.key("a")
            await settle()
    assert [(line["log_level"], line.get("reason")) for line in lines] == [
        ("warning", "it is down"),
        ("warning", "it answers no JSON"),
        ("info", None),
    ]


async def test_whatever_fails_is_told_and_ends_nothing() -> None:
    gives: list[Key] = [A]

    async def fetch() -> Mapping[str, Key]:
        if not gives:
            raise OverflowError("port of secret.example must be 0-65535")
        return {str(each.kid): each for each in gives}

    fetches = Fetches()
    keys = KnownKeys(fetch, fetches.clock)
    assert await keys.key("a") is A
    gives.clear()
    fetches.time += 10
    with capture_logs() as lines:
        assert await keys.key("b") is None
        assert await keys.key("a") is A
    assert [line["reason"] for line in lines] == ["it cannot be asked: OverflowError"]


async def test_that_tokens_cannot_be_verified_is_told_with_the_reason_once_in_a_while(
    fetches: Fetches, keys: KnownKeys
) -> None:
    fetches.fails = "it is down"
    with capture_logs() as lines:
        for second in range(21):
            fetches.time = 2000.0 + second
            with pytest.raises(IdentityUnavailableError):
                await keys.key("a")
    told = [(line["times"], line["reason"]) for line in lines if line["event"] == "tokens not verified"]
    assert told == [(times, "the identity provider gives no keys: it is down") for times in (1, 10, 10)]


async def test_who_leaves_does_not_end_a_fetch_that_others_wait_for(fetches: Fetches, keys: KnownKeys) -> None:
    fetches.may_end.clear()
    leaving, staying = asyncio.create_task(keys.key("a")), asyncio.create_task(keys.key("a"))
    await settle()
    leaving.cancel()
    await settle()
    fetches.may_end.set()
    assert await staying is A
    assert leaving.cancelled()


async def test_a_fetch_that_takes_long_is_the_only_one(fetches: Fetches, keys: KnownKeys) -> None:
    fetches.may_end.clear()
    asked = [asyncio.create_task(keys.key("a"))]
    await settle()
    fetches.time += 60
    asked.append(asyncio.create_task(keys.key("a")))
    await settle()
    assert fetches.number == 1
    fetches.may_end.set()
    assert await asyncio.gather(*asked) == [A, A]


async def test_closing_ends_a_fetch(fetches: Fetches) -> None:
    keys = KnownKeys(fetches, fetches.clock)
    fetches.may_end.clear()
    asked = asyncio.create_task(keys.key("a"))
    await settle()
    await asyncio.wait_for(keys.aclose(), 5)
    with pytest.raises(asyncio.CancelledError):
        await asked
