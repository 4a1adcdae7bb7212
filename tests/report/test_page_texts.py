"""The texts of all pages exist in English and Chinese, with the same values, and pages contain no others."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import batchgen.report
import batchgen.review
from batchgen.report import page_text
from batchgen.review import review_text

Texts = Mapping[str, tuple[str, str]]
PAGES = {
    Path(batchgen.report.__file__).parent: (page_text.TEXTS, page_text.SCRIPT_TEXTS),
    Path(batchgen.review.__file__).parent: (review_text.TEXTS, review_text.SCRIPT_TEXTS),
}
"""For each folder with templates: the texts of its templates and of its scripts."""
OLD_WORDS = re.compile("门槛|评审模型|词元|提问|停止串")
"""Words for gate, judge, token, prompt and stop string that these pages do not use."""


@pytest.mark.parametrize("texts", [texts for page in PAGES.values() for texts in page])
def test_every_text_has_both_languages_with_the_same_values(texts: Texts) -> None:
    for key, (english, chinese) in texts.items():
        has_words = re.search("[A-Za-z]", re.sub(r"{\w+}", "", english))
        assert re.search("[\u4e00-\u9fff]", chinese) or not has_words, key
        assert not re.search("[\u4e00-\u9fff]", english), key
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), key
        assert not re.search("[\u4e00-\u9fff][,;!?]", chinese), f"{key}: half-width punctuation"
        assert not OLD_WORDS.search(chinese), key


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_every_text_that_a_template_or_script_names_exists(folder: Path) -> None:
    static, scripted = PAGES[folder]
    for template in folder.glob("templates/*.jinja"):
        assert set(re.findall(r'\bt\("(\w+)"[,)]', template.read_text("utf-8"))) <= set(static)
    for script in folder.glob("templates/*.js"):
        named = set(re.findall(r'\bsay\("(\w+)"[,)]', script.read_text("utf-8")))
        shared = script.name == "common.js"
        assert all(
            named <= set(one) for one in ([t[1] for t in PAGES.values()] if shared else [scripted])
        )


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_templates_contain_no_words_of_one_language(folder: Path) -> None:
    for template in folder.glob("templates/*.jinja"):
        text = re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}", "", template.read_text("utf-8"), flags=re.DOTALL)
        words = re.findall(r"[A-Za-z\u4e00-\u9fff]{2,}", re.sub(r"<[^>]*>", " ", text))
        assert set(words) <= {"batchgen", "中文", "English"}, template.name
