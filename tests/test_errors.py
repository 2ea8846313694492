"""Messages are one line, and a shortened one says so."""

from pare_jax.errors import reason_of


def test_a_librarys_message_becomes_one_line():
    assert reason_of(ValueError("expected\n  'a' or 'b'.")) == "expected 'a' or 'b'"
    assert reason_of(ZeroDivisionError()) == "ZeroDivisionError"
    assert reason_of(KeyError("no name")) == "'no name'"


def test_a_long_message_ends_with_dots_and_never_within_a_quote_unseen():
    text = "'" + "long " * 100 + "'"
    shortened = reason_of(ValueError(text), 50)
    assert len(shortened) <= 50
    assert shortened.endswith("...")
    assert reason_of(ValueError(text), len(text)) == text
