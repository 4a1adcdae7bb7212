"""Detection of personal data: values that must be found, values that must not, and linear time for any text.

Numbers are published examples, test numbers, or from ranges kept free for fiction: Ofcom's 020 7946 0xxx and 07700 900xxx,
NANP's 555-01xx, the NHS Data Dictionary's 943 476 5919, GB 11643-1999's own two, SWIFT's IBAN registry, the card networks'
test cards.
"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.privacy.entities import PII_KINDS, PiiKind, PiiMatch, find_pii


def found(text: str) -> list[tuple[PiiKind, str]]:
    return [(f.kind, text[f.start : f.end]) for f in find_pii(text)]


WHOLE: list[tuple[PiiKind, str]] = [
    ("email", "jane.doe@example.com"),
    ("email", "j+news@mail.example.co.uk"),
    ("email", "o'brien_7@sub-domain.example.org"),
    ("email", "jürgen@müller.example"),
    ("email", "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ"),
    ("email", "ja\u200bne@exam\u00adple.com"),
    ("email", f"{'x' * 300}@example.com"),
    ("phone", "+44 20 7946 0958"),
    ("phone", "+44 (0)20 7946 0958"),
    ("phone", "+442079460958"),
    ("phone", "0044 20 7946 0958"),
    ("phone", "+1 (202) 555-0143"),
    ("phone", "+1-202-555-0143"),
    ("phone", "(202) 555-0143"),
    ("phone", "202-555-0143"),
    ("phone", "202.555.0143"),
    ("phone", "1-202-555-0143"),
    ("phone", "020 7946 0958"),
    ("phone", "(020) 7946 0958"),
    ("phone", "07700 900123"),
    ("phone", "13800138000"),
    ("phone", "138 0013 8000"),
    ("phone", "138-0013-8000"),
    ("phone", "8613800138000"),
    ("phone", "+86 138 0013 8000"),
    ("phone", "0086 13800138000"),
    ("phone", "１３８００１３８０００"),
    ("phone", "138\u20140013\u20148000"),
    ("phone", "1 3 8 0 0 1 3 8 0 0 0"),
    ("phone", "1\ufe0f\u20e33800138000"),
    ("phone", "٢٠٢-٥٥٥-٠١٤٣"),
    ("phone", "0755-12345678"),
    ("phone", "+49 30 901820"),
    ("credit_card", "4111111111111111"),
    ("credit_card", "4111 1111 1111 1111"),
    ("credit_card", "4111-1111-1111-1111"),
    ("credit_card", "4111.1111.1111.1111"),
    ("credit_card", "4111\u00a01111\u00a01111\u00a01111"),
    ("credit_card", "４１１１　１１１１　１１１１　１１１１"),
    ("credit_card", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ("credit_card", "4222222222222"),
    ("credit_card", "5555555555554444"),
    ("credit_card", "2223003122003222"),
    ("credit_card", "378282246310005"),
    ("credit_card", "3782 822463 10005"),
    ("credit_card", "3056 930902 5904"),
    ("credit_card", "6011 1111 1111 1117"),
    ("credit_card", "3530111333300000"),
    ("credit_card", "6200000000000005"),
    ("iban", "GB29NWBK60161331926819"),
    ("iban", "GB29 NWBK 6016 1331 9268 19"),
    ("iban", "gb29 nwbk 6016 1331 9268 19"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "FR14 2004 1010 0505 0001 3M02 606"),
    ("iban", "NO93 8601 1117 947"),
    ("iban", "MT84 MALT 0110 0001 2345 MTLC AST0 01S"),
    ("iban", "ＤＥ８９３７０４００４４０５３２０１３０００"),
    ("ip", "192.0.2.17"),
    ("ip", "255.255.255.255"),
    ("ip", "2001:db8::8a2e:370:7334"),
    ("ip", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
    ("ip", "fe80::1"),
    ("ip", "::ffff:192.0.2.128"),
    ("ip", "2001:DB8::"),
    ("us_ssn", "078-05-1120"),
    ("us_ssn", "078 05 1120"),
    ("us_ssn", "０７８－０５－１１２０"),
    ("uk_nhs", "943 476 5919"),
    ("uk_nhs", "943-476-5919"),
    ("uk_nhs", "9434765919"),
    ("cn_resident_id", "11010519491231002X"),
    ("cn_resident_id", "11010519491231002x"),
    ("cn_resident_id", "１１０１０５１９４９１２３１００２Ｘ"),
    ("cn_resident_id", "440524188001010014"),
    ("cn_resident_id", "440524 18800101 0014"),
]


@pytest.mark.parametrize(("kind", "text"), WHOLE)
@pytest.mark.parametrize("around", ["{}", "See {}.", "请联系{}，谢谢", "a,{},b", "({})", "\n{}\n"])
def test_a_finding_covers_the_whole_value(kind: PiiKind, text: str, around: str) -> None:
    assert found(around.format(text)) == [(kind, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pay 12 4111 1111 1111 1111 today", [("credit_card", "4111 1111 1111 1111")]),
        ("4111 1111 1111 1111 123", [("credit_card", "4111 1111 1111 1111")]),
        ("SSN: 078051120", [("us_ssn", "078051120")]),
        ("his social security number is 078051120.", [("us_ssn", "078051120")]),
        ("mailto:a@example.com?x", [("email", "a@example.com")]),
        ("wait...bob@example.com...", [("email", "bob@example.com")]),
        ("_bob@example.com_", [("email", "bob@example.com")]),
        ("bob@192.0.2.1", [("ip", "192.0.2.1")]),
        ("[2001:db8::1]:443", [("ip", "2001:db8::1")]),
        ("http://192.0.2.1:80/x", [("ip", "192.0.2.1")]),
        ("+44 20 7946 0958x12", [("phone", "+44 20 7946 0958")]),
        (r'{"tel": "\u7535\u8bdd13800138000\n"}', [("phone", "13800138000")]),
        (r'["a\nbob@example.com\u4f60"]', [("email", "bob@example.com")]),
        ("13800138000加微信", [("phone", "13800138000")]),
        ("13800138000/13900139000", [("phone", "13800138000"), ("phone", "13900139000")]),
        ("a@example.com,b@example.com", [("email", "a@example.com"), ("email", "b@example.com")]),
        (
            "IBAN DE89370400440532013000 BIC",
            [("iban", "DE89370400440532013000")],
        ),
    ],
)
def test_findings_within_other_text(text: str, expected: list[tuple[PiiKind, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no digits here, and no at sign",
        "user@localhost",
        "@handle and a@b",
        "4111111111111112",
        "1111 1111 1111 1117",  # the Luhn check passes, but no issuer begins with 1
        "79927398713",  # the textbook Luhn example is not a card
        "41111111111111111111111",
        "a4111111111111111",
        "GB29NWBK60161331926818",
        "GB29NWBK6016133192681",
        "XX29NWBK60161331926819",
        "256.1.1.1",
        "1.2.3",
        "1.2.3.4.5",
        "v1.2.3.4",
        "std::vector<int>",
        "items[1::2]",
        "12:30:45",
        "00:1a:2b:3c:4d:5e",
        "add::bad",
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "123-00-4567",
        "123-45-0000",
        "123-45 6789",
        "078051120",  # nine digits are ambiguous
        "9434765918",
        "943 076 5910",  # the check digit would be 4
        "1700000000",
        "110105194912310021",  # check digit
        "110105194902290029",  # 1949 had no 29 February; the check digit is right
        "990105194912310023",  # no province 99; the check digit is right
        "12800138000",
        "138001380000",
        "x13800138000",
        "0.13800138000",
        "2026-11-24 14:59:13",
        "1985-10-12 183 cm",
        "1,234,567.89",
        "ISBN 978-3-16-148410-0",
        "ISSN 0317-8471",
        "102-555-0143",
        "202-155-0143",
        "x+442079460958",
        "+1 234",
        "3.14159265358979323846",
        "0x7fffffff 0b1010",
        "550e8400-e29b-41d4-a716-446655440000",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "电话：请看官网",
    ],
)
def test_lookalikes_are_not_found(text: str) -> None:
    assert found(text) == []


def test_only_the_requested_kinds_are_found() -> None:
    text = "a@example.com 13800138000 192.0.2.1"
    assert [f.kind for f in find_pii(text, {"email", "ip"})] == ["email", "ip"]
    assert find_pii(text, ()) == []


NUMBERS = ["4111111111111111", "9434765919", "440524188001010014", "GB29NWBK60161331926819"]


@pytest.mark.parametrize("number", NUMBERS)
@given(data=st.data())
def test_one_wrong_digit_is_detected(number: str, data: st.DataObject) -> None:
    """Luhn, MOD 11, MOD 11-2 and MOD 97-10 each catch every single wrong digit, by construction."""
    places = [at for at, c in enumerate(number) if c.isdigit()]
    at = data.draw(st.sampled_from(places))
    other = data.draw(st.sampled_from([d for d in "0123456789" if d != number[at]]))
    wrong = number[:at] + other + number[at + 1 :]
    kinds = {f.kind for f in find_pii(number)}
    assert not kinds & {f.kind for f in find_pii(wrong)}


PIECES = st.sampled_from(["１３８", "1", "38", "00", " ", "-", "\u200b", "@", ".", "a", "你", "é", ":", "+", "(", "x.com"])  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
def test_findings_are_ordered_disjoint_and_within_the_text(text: str) -> None:
    at = 0
    for one in find_pii(text):
        assert at <= one.start < one.end <= len(text)
        assert one.kind in PII_KINDS
        at = one.end


def test_positions_refer_to_the_given_text() -> None:
    assert find_pii("a\u200b\u200bb 13800138000") == [PiiMatch("phone", 5, 16)]


HOSTILE = ["1", "1 2 ", "4111 ", "4111-", "a", "a@", "a.", "@", ":", "ab:", "+1", "+1 2 3 (4 ", "00 1 ", "GB82 ", "GB82WEST1234", "1.1.", "255.255.255.", "(0", "202-", "123-45-", "ssn ", "1199003071", "11 01 01 1990 0307 ", "你好", "１３８", "1\u200b", "é.", "943-476-", "'+.", "a@b.1.", "020 7946 ", "a@b.c"]  # fmt: skip


@pytest.mark.timing
@pytest.mark.parametrize("piece", HOSTILE)
def test_search_time_is_linear_in_hostile_text(piece: str) -> None:
    """A quadratic pattern would take minutes for 0.2 MB; linear ones take 0.2 s."""
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    find_pii(text)
    assert time.process_time() - began < 1.5
