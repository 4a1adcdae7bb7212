"""The instructions of IFEval (Zhou et al. 2023) that an answer can be checked for, and what each is told.

Ids and keywords are those of the published data set. Knows nothing of how they are checked.
"""

from collections.abc import Mapping

INSTRUCTIONS: Mapping[str, frozenset[str]] = {
    identifier: frozenset(keywords.split())
    for identifier, keywords in {
        "keywords:existence": "keywords",
        "keywords:frequency": "keyword frequency relation",
        "keywords:forbidden_words": "forbidden_words",
        "keywords:letter_frequency": "letter let_frequency let_relation",
        "language:response_language": "language",
        "length_constraints:number_sentences": "num_sentences relation",
        "length_constraints:number_paragraphs": "num_paragraphs",
        "length_constraints:number_words": "num_words relation",
        "length_constraints:nth_paragraph_first_word": "num_paragraphs nth_paragraph first_word",
        "detectable_content:number_placeholders": "num_placeholders",
        "detectable_content:postscript": "postscript_marker",
        "detectable_format:number_bullet_lists": "num_bullets",
        "detectable_format:constrained_response": "",
        "detectable_format:number_highlighted_sections": "num_highlights",
        "detectable_format:multiple_sections": "section_spliter num_sections",
        "detectable_format:json_format": "",
        "detectable_format:title": "",
        "combination:two_responses": "",
        "combination:repeat_prompt": "prompt_to_repeat",
        "startend:end_checker": "end_phrase",
        "startend:quotation": "",
        "change_case:capital_word_frequency": "capital_frequency capital_relation",
        "change_case:english_capital": "",
        "change_case:english_lowercase": "",
        "punctuation:no_comma": "",
    }.items()
}
"""Keywords that each instruction needs, by its id."""
