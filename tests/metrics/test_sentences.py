"""Where sentences end: the values are those of a reader, and of Punkt but for lists, headings and blank lines."""

import time

import pytest

from batchgen.metrics.sentences import split_sentences

COUNTS: list[tuple[str, int]] = [
    ("", 0),
    ("...", 0),
    ("no full stop", 1),
    ("One. Two! Three? Four", 4),
    # Line breaks: wrapped text is one sentence; blank lines, items, headings and bold lines are ends.
    ("A line that\nis wrapped\nhere. And here\nagain.", 2),
    ("A line that\r\nis wrapped.", 1),
    ("one\n\ntwo", 2),
    ("one\n \t\ntwo", 2),
    ("Buy:\n- milk\n- bread\n- eggs", 4),
    ("Buy:\n1. milk.\n2. bread.\n10. eggs", 4),
    ("1) milk\n2) bread", 2),
    ("• 牛奶\n• 面包", 2),
    ("一、牛奶\n二、面包\n（三）鸡蛋", 3),
    ("- an item that\n  is wrapped\n- another", 2),
    ("# Title\nText without a stop", 2),
    ("**Title**\nText here. More.", 3),
    ("Text\n---\nmore", 2),
    ("so it is 4*8 = 32\n#### 32", 1),  # GSM8K: the mark is no heading
    ("Here is it:\n```python\n# This. Is. Code.\n\nx = 1\n```\nIt prints 1. Done.", 2),
    # Abbreviations
    ("Is it 5 p.m. or 6 a.m. now?", 1),
    ("It is 5 p.m. He left at 6 a.m. The end.", 3),
    ("We meet at 5 p.m. Monday, 9 a.m. EST.", 1),
    ("Apple Inc. bought it. Apple Inc. Chief Tim Cook said so.", 2),
    ("He works for Apple Inc. She works for Foo Ltd. They met.", 3),
    ("See Fig. 3 and Figs. 4, Eq. 5, No. 5, pp. 7, vol. 8 and Sec. 2.", 1),
    ("Fig. A shows it. No. I do not.", 3),
    ("Vol. II and Op. 27 of Dept. of Music, est. in 1990, No. of pages unknown.", 1),
    ("Lt. Col. Lee and Maj. Gen. Wu saw 5 sq. ft. of Mt. Everest.", 1),
    ("Did he? No. 5 is odd.", 2),
    ("No. That is wrong.", 2),
    ("Mr. Smith, Mrs. Li, Dr. Who, Prof. Xu, St. John and Gen. Lee met.", 1),
    ("Cf. Smith et al. 2020, e.g. this, i.e. that, vs. those, approx. ten.", 1),
    ("He lives in the U.S. and the U.K. He likes it.", 2),
    ("The U.S. Army has a Ph.D. program in Washington, D.C. It is big.", 2),
    ("He bought milk, etc. and left. She bought eggs, etc. Then she left.", 3),
    ("On Jan. 5 and Sept. 6 we ran 3 hrs. Tom ran 10 ft. The end.", 3),
    ("He looked at the sun. Then the car sat. Now the mar.", 3),
    ("One more rep. Then rest. I met Ed. He left. I love art. Do you?", 6),
    # Initials and letters
    ("J. R. R. Tolkien and George W. Bush met.", 1),
    ("Take vitamin C. It helps. So do I. Then rest.", 4),
    ("The answer is B. Because of A, not C.", 2),
    ("A. Paris\nB. Rome", 2),
    # Numbers, addresses, dots
    ("It costs $3.14. Pay 1,000.50 in 1999. Then go to example.com/a.b. Bye.", 4),
    ("Version 2.0.1 is out. Use .env and a.b.c.", 2),
    ("Well... maybe. Well... Maybe. Wait… what? Wait… What?", 6),
    ("It is less complex . . . than that. . . . The rest stays . . .", 2),
    ("Were Jane and co. here, with Pitt & Co. at 5th st. near it?", 1),
    ("He (who was there.) left. (She stayed.) They met.", 3),
    ("What?! No!!! Yes.", 3),
    # Quotation marks and brackets
    ('He said "Go." Then he left.', 2),
    ('"Stop!" he cried. "Why?" she asked.', 2),
    ("“Go.” She left. (It was late.) He slept.", 4),
    ("**Done.** Next *one.* Last", 3),
    ("“你好。”他说。“再见！”", 3),
    # Scripts without spaces, and others
    ("今天天气很好，我们去公园吧。好！走吗？", 3),
    ("他想了想……然后走了。", 1),
    ("我用 GPT-4.0 写了。花了 3.5 元！", 2),
    ("你好.我是小王.再见", 3),
    ("第一行没有句号\n第二行有。", 1),
    ("これは本です。いいですね！", 2),
    ("यह एक है। वह दो है।", 2),
    ("هل هذا صحيح؟ نعم.", 2),
    ("Привет, мир! Как дела?", 2),
    ("Er kam, z. B. am Abend, bzw. in der Nacht.", 1),
]


@pytest.mark.parametrize(("text", "count"), COUNTS)
def test_sentences(text: str, count: int) -> None:
    found = split_sentences(text)
    assert len(found) == count, found
    rest = iter(text)
    assert all(char in rest for part in found for char in part)


@pytest.mark.timing
@pytest.mark.parametrize(
    "unit", ["a. ", ".", "\n", "**", "- ", "(\n", "# ", "```\n", "A.A.", " \n"]
)
def test_any_text_is_read_in_linear_time(unit: str) -> None:
    start = time.perf_counter()
    split_sentences(unit * (100_000 // len(unit)))
    assert time.perf_counter() - start < 5
