"""Whose rows a list shows is decided in one place, for every list of the sequencer."""

import pytest
from hypothesis import example, given
from hypothesis.strategies import booleans, none, sampled_from, text
from throttling_sequencer.application.owners import EVERYBODY, NotAdminError, listed_owner
from throttling_sequencer.domain.errors import InvalidValueError

NAMES = sampled_from(["ann", "Ann", "ann ", "*", ""]) | text(max_size=3).filter(
    lambda name: "\x00" not in name and name.isprintable()
)


@given(owner=none() | NAMES, asker=NAMES)
@example(owner="*", asker="*")
def test_who_is_no_administrator_gets_their_own_rows_or_none(owner: str | None, asker: str) -> None:
    try:
        assert listed_owner(owner, asker=asker, is_admin=False) == asker
    except NotAdminError:
        assert owner is not None
        assert owner == EVERYBODY or owner != asker


@given(asker=NAMES, is_admin=booleans())
def test_without_a_name_everybody_gets_their_own(asker: str, *, is_admin: bool) -> None:
    assert listed_owner(None, asker=asker, is_admin=is_admin) == asker


@given(owner=NAMES.filter(lambda name: name != EVERYBODY), asker=NAMES)
def test_an_administrator_gets_whose_are_named(owner: str, asker: str) -> None:
    assert listed_owner(owner, asker=asker, is_admin=True) == owner
    assert listed_owner(EVERYBODY, asker=asker, is_admin=True) is None


@pytest.mark.parametrize("name", ["x" * 256, "a\x00b", "\udfff"])
def test_a_name_that_no_table_keeps_is_refused(name: str) -> None:
    with pytest.raises(InvalidValueError, match=r"^owner should be at most 255 characters"):
        listed_owner(name, asker="root", is_admin=True)
    with pytest.raises(InvalidValueError, match=r"^owner_id should be at most 255 characters"):
        listed_owner(None, asker=name, is_admin=False)
