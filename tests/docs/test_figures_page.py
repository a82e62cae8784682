"""The page of figures says what was measured."""

from bench.tables import PAGE, page


def test_the_page_is_that_of_the_results() -> None:
    assert PAGE.read_text() == page(), "python -m bench.tables writes it"
