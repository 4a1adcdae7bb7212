"""Replacements of personal data."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.privacy.entities import PII_KINDS, find_pii
from batchgen.privacy.redact import (
    Redactor,
    Substitute,
    keyed_hash,
    mask_value,
    placeholder,
    secret_id,
)

SECRET = "correct horse battery staple"
TEXT = "Ann <ann@example.com>, 138 0013 8000, 卡号４１１１１１１１１１１１１１１１。"


def redact(text: str, substitute: Substitute = placeholder) -> str:
    return Redactor(PII_KINDS, substitute).redact(text).text


def test_placeholders_leave_the_other_text_unchanged() -> None:
    redacted = Redactor(PII_KINDS, placeholder).redact(TEXT)
    assert redacted.text == "Ann <[EMAIL]>, [PHONE], 卡号[CREDIT_CARD]。"
    assert redacted.counts == {"email": 1, "phone": 1, "credit_card": 1}


def test_only_the_requested_kinds_are_redacted() -> None:
    assert Redactor(["phone"], placeholder).redact(TEXT).text == TEXT.replace(
        "138 0013 8000", "[PHONE]"
    )
    assert Redactor((), placeholder).redact(TEXT).text == TEXT


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("jane.doe@example.com", "j***@example.com"),
        ("jane＠example.com", "j***@example.com"),
        ("192.0.2.17", "192.0.*.*"),
        ("2001:db8::8a2e:370:7334", "*:*"),
        ("4111 1111 1111 1111", "**** **** **** 1111"),
        ("+44 20 7946 0958", "+** ** **** 0958"),
        ("DE89370400440532013000", "******************3000"),
        ("078-05-1120", "***-**-1120"),
        ("943 476 5919", "*** *** 5919"),
        ("11010519491231002X", "**************002X"),
    ],
)
def test_masks_keep_only_nonidentifying_parts(text: str, masked: str) -> None:
    assert redact(f"a {text} b", mask_value) == f"a {masked} b"


def test_a_hash_is_the_rfc_2104_hmac_of_the_value() -> None:
    digest = hmac.new(SECRET.encode(), b"phone:13800138000", "sha256").digest()
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    bits = int.from_bytes(digest) >> (256 - 65)
    expected = "".join(letters[bits >> (60 - 5 * at) & 31] for at in range(13))
    assert redact("13800138000", keyed_hash(SECRET)) == f"[PHONE:{expected}]"


@pytest.mark.parametrize(
    "other", ["138 0013 8000", "138-0013-8000", "１３８００１３８０００", "138\u200b00138000"]
)
def test_spellings_of_a_value_have_the_same_hash(other: str) -> None:
    assert redact(other, keyed_hash(SECRET)) == redact("13800138000", keyed_hash(SECRET))


def test_hashes_differ_by_value_and_by_secret() -> None:
    one = redact("13800138000", keyed_hash(SECRET))
    assert one != redact("13800138001", keyed_hash(SECRET))
    assert one != redact("13800138000", keyed_hash(SECRET + "!"))
    assert secret_id(SECRET) != secret_id(SECRET + "!")
    assert SECRET not in secret_id(SECRET)


SAMPLES = ["ann@example.com", "13800138000", "078-05-1120", "192.0.2.1", "DE89370400440532013000", "4111111111111111", "+44 20 7946 0958"]  # fmt: skip


@pytest.mark.parametrize("substitute", [placeholder, mask_value, keyed_hash(SECRET)])
@given(st.lists(st.sampled_from([*SAMPLES, " ", "-", "a", "你", "[", "@", "\n"]), max_size=12))
def test_redacted_text_has_no_findings(substitute: Substitute, pieces: list[str]) -> None:
    once = redact("; ".join(pieces), substitute)
    assert find_pii(once) == []
    assert redact(once, substitute) == once
