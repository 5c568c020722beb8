"""A batch token is good for one key, for a while, and only with the seal of who knows the secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_contracts.batch_tokens import SECONDS_MAX, TokenInvalid, batch_token, key_behind

SECRET = "a secret that gateways and billing have"
NOW = 1_790_000_000

keys = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(key=keys, seconds=st.integers(1, SECONDS_MAX))
def test_a_token_leads_to_its_key_until_it_expires(key: str, seconds: int) -> None:
    token = batch_token(key, SECRET, expires_at=NOW + seconds)
    assert key_behind(token, SECRET, now=NOW) == key
    assert key_behind(token, SECRET, now=NOW + seconds - 0.5) == key
    with pytest.raises(TokenInvalid, match="expired"):
        key_behind(token, SECRET, now=NOW + seconds)


@given(key=keys, at=st.integers(0), other=st.characters(codec="ascii"))
def test_a_token_that_was_altered_anywhere_is_refused(key: str, at: int, other: str) -> None:
    token = batch_token(key, SECRET, expires_at=NOW + 60)
    at %= len(token)
    altered = token[:at] + other + token[at + 1 :]
    if altered != token:
        with pytest.raises(TokenInvalid):
            key_behind(altered, SECRET, now=NOW)


@given(key=keys)
def test_another_secret_s_seal_is_none(key: str) -> None:
    with pytest.raises(TokenInvalid):
        key_behind(batch_token(key, "another", expires_at=NOW + 60), SECRET, now=NOW)


@given(key=keys)
def test_nobody_makes_one_that_stays_good_for_longer_than_a_request_takes(key: str) -> None:
    with pytest.raises(TokenInvalid):
        key_behind(batch_token(key, SECRET, expires_at=NOW + SECONDS_MAX + 1), SECRET, now=NOW)


@given(text=st.text())
def test_whatever_else_comes_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid):
        key_behind(text, SECRET, now=NOW)
