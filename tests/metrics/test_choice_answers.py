"""Answers to multiple-choice questions, English and Chinese, with the letter that a reader takes from them."""

from time import perf_counter

import pytest

from tests.metrics.conftest import ScoreOf

CITIES = {"fields": {"options": ["Paris", "London", "Rome", "Berlin"]}}

GIVEN = [
    # The label alone, in any dress.
    ("C", "C"), ("c", "C"), ("C.", "C"), ("(c)", "C"), ("[C]", "C"), ("<C>", "C"), ("**(C)**", "C"), ("`C`", "C"),
    ("“C”", "C"), ("Ｃ．", "C"), ("（C）", "C"), ("【C】", "C"), ("$C$", "C"), ("Choice C", "C"), ("Option (C).", "C"), ("C选项", "C"),
    # A cue with a noun.
    ("The answer is C", "C"), ("the correct answer is (C).", "C"), ("Answer C", "C"), ("ANSWER: C", "C"), ("Answer = C", "C"),
    ("Answer → C", "C"), ("**Final Answer:** C", "C"), ("### Answer\nC", "C"), ("Answer:\n\n**C**", "C"), ("Correct answer: C) Rome", "C"),
    ("The correct option is C", "C"), ("The best choice here is C.", "C"), ("The right letter is C", "C"), ("My answer is C.", "C"),
    ("The answer must be C.", "C"), ("The answer should therefore be C.", "C"), ("The answer is most likely C.", "C"),
    ("The answer is, I believe, C.", "C"), ("The answer to the second question is C.", "C"), ("The answer is option C", "C"),
    ("The answer is the second choice, B.", "B"), ("The answer is clearly C: Rome.", "C"), ('{"answer": "C"}', "C"),
    ("{'final_answer': 'C', 'why': 'A is in France'}", "C"), ("The correct sentence is C.", "C"), ("The incorrect statement is D.", "D"),
    ("The answer is C, because A and B are in the north.", "C"), ("The answer is D. B is a distractor.", "D"),
    ("The answer is C, A and B are wrong.", "C"), ("The answer is C; B is too small.", "C"), ("The answer is not B but C.", "C"),
    ("The answer isn't A, it's D.", "D"), ("The answer could be C.", "C"), ("Answer: C - Rome", "C"), ("Réponse : C", "C"),
    ("La respuesta correcta es: C", "C"), ("Ответ: C", "C"), ("正解：C", "C"), ("정답: C", "C"), ("The answer is A because dogs bark.", "A"),
    ("The answer is A.", "A"), ("The answer is A, I think.", "A"), ("The correct category is B.", "B"),
    # A cue with a verb.
    ("I choose C.", "C"), ("I'd pick B here", "B"), ("I would go with D", "D"), ("Let me select option A.", "A"), ("I'll opt for C.", "C"),
    ("I'm leaning towards C.", "C"), ("I settled on B after some thought.", "B"), ("I would not choose A; I choose B.", "B"),
    # Cues of any text.
    ("It's B.", "B"), ("This must be D.", "D"), ("So, C.", "C"), ("Hence B", "B"), ("Therefore it is C.", "C"), ("⇒ C", "C"),
    ("That would be option D.", "D"), ("I think B.", "B"), ("I believe it's C.", "C"), ("Rome is in Italy, so C.", "C"),
    ("The answer to this question is: C. Rome", "C"), ("So the answer is $\\mathbf{C}$.", "C"), ("【答】C", "C"),
    ("A. 错误 B. 错误 C. 正确 D. 错误", "C"), ("A.错误 B.错误 C.正确 D.错误", "C"), ("A. Wrong B. Wrong C. Right D. Wrong", "C"),
    # Marked with tags, boxes and brackets.
    ("<answer>B</answer>", "B"), ("<answer>\n(B) London\n</answer>", "B"), ("<answer>The answer is B</answer>", "B"),
    ("Some thought about A. <final_answer>B</final_answer>", "B"), (r"So \boxed{C}", "C"), (r"\boxed{\text{C}}", "C"),
    (r"\boxed{\mathrm{(C)}}", "C"), (r"$\boxed{C. \text{Rome}}$", "C"), (r"The answer is $\boxed{C}$.", "C"),
    ("A is fluent, B is not. [[A]]", "A"), ("Its weight speaks for A.\n\\boxed{A}\nWait. \\boxed{D}", "D"),
    # The label first, with a reason or the text of the option.
    ("C\nRome is the capital of Italy.", "C"), ("**C**: Rome", "C"), ("**C.** Rome", "C"), ("C) Rome", "C"), ("C: Rome", "C"),
    ("C - Rome", "C"), ("C – Rome, as the text states", "C"), ("(C) Rome", "C"), ("[B] London", "B"), ("c) rome", "C"), ("C Rome", "C"),
    ("C, because it is the capital.", "C"), ("C because it is the capital.", "C"), ("Option C, since Rome is the capital.", "C"),
    ("C. Rome\n\nA. Paris is in France\nB. London is in Britain", "C"), ("A. It is the capital of France.", "A"), ("B — London", "B"),
    # A later answer is clearer than the first letter.
    ("A. Paris comes to mind first.\n\nBut the answer is C.", "C"), ("(A) is tempting.\n\nAnswer: B", "B"), ("A) no\nB) no\nC) no\n\nD", "D"),
    ("A\n\nWait, that is wrong. The correct answer is B.", "B"), ("First I think the answer is A. No: the answer is D.", "D"),
    ("A. Paris\nB. London\nC. Rome\nD. Berlin\n\nAnswer: C", "C"), ("A. Paris\nB. London\nC. Rome\nD. Berlin\n\nC. Rome", "C"),
    ("Let us see.\nItaly has one capital.\n\nC. Rome", "C"), ("Paris is in France.\nSo:\n(C)", "C"),
    # Verdicts, and what is left.
    ("C is correct.", "C"), ("Option C is the right answer.", "C"), ("A is wrong, B is wrong, C is right.", "C"), ("Only B is correct.", "B"),
    ("A: wrong\nB: wrong\nC: correct\nD: wrong", "C"), ("A ✗ B ✗ C ✓ D ✗", "C"), ("(A) wrong (B) right (C) wrong", "B"),
    ("A. Paris - incorrect\nB. London - incorrect\nC. Rome - correct\nD. Berlin - incorrect", "C"), ("B is the best answer.", "B"),
    ("A, B and D are wrong.", "C"), ("None of A, B and C is right.", "D"), ("We can rule out A, B and C.", "D"), ("A isn't right, B isn't right, and D is false.", "C"),
    # A second task after the answer.
    ("B. London\n\nQuestion: What is 2 + 2?\nAnswer: D", "B"), ("Answer: A\n\nQ: Which one?\nA: C", "A"),
    # Chinese.
    ("答案：C", "C"), ("答案C", "C"), ("答案是C。", "C"), ("正确答案为（C）。", "C"), ("【答案】C\n【解析】罗马是首都。", "C"), ("答：B。", "B"), ("答：选B。", "B"),
    ("本题选D。", "D"), ("故选：C", "C"), ("应选C", "C"), ("因此，答案应该是D选项。", "D"), ("我选择B，因为伦敦是首都。", "B"), ("我认为是C。", "C"),
    ("所以选A", "A"), ("综上所述，C。", "C"), ("因此C。", "C"), ("应该是B。", "B"), ("错误的是D", "D"), ("说法正确的是B。", "B"), ("符合题意的是C。", "C"),
    ("C项正确。", "C"), ("C选项是正确的", "C"), ("A错，B错，C对，D错", "C"), ("A错误；B错误；C错误；D正确。", "D"), ("A不对，B不对，D不对。", "C"),
    ("排除A、B、D。", "C"), ("答案不是A，而是C。", "C"), ("不选A，选B。", "B"), ("答案是B，C项错误。", "B"), ("答案是B，A、C、D都错。", "B"), ("C：罗马", "C"),
    ("C、罗马是首都", "C"), ("C 罗马", "C"), ("C\n罗马是意大利的首都。", "C"), ("C，因为罗马是首都。", "C"), ("C。罗马是首都。", "C"), ("选项C", "C"),
    ("答案：Ｃ", "C"), ("正确选项：C", "C"), ("答案选C，理由如下", "C"), ("<answer>C</answer>。", "C"), ("答案：\n\nC", "C"), ("答案是 **C**", "C"),
    # Whole answers of models, and dresses of the label.
    ("The answer is B.\n\nExplanation: A is incorrect because it is in France. C is incorrect.", "B"),
    ("I, too, would say C.", "C"),
    ("B is not the answer, C is.", "C"),
    ("I'd say it's probably C", "C"),
    ("C is my answer", "C"),
    ("The answer is C. Hope this helps! A friendly bot", "C"),
    ("Let's analyze each option:\nA) Paris: not the capital.\nB) London: no.\nC) Rome: yes, it is the capital of Italy.\nD) Berlin: no.\n\nTherefore, the correct answer is C) Rome.", "C"),
    ("The answer is:\n\nC. Rome", "C"),
    ("The answer is:\n\n(C) Rome\n\nBecause A is ...", "C"),
    ("The correct answer is **C. Rome**.", "C"),
    ("**Answer: C. Rome**", "C"),
    ("Answer: (C) Rome; Explanation: (A) Paris is in France", "C"),
    ("Based on the text, option B is the most appropriate.", "B"),
    ("Option B seems to be the best fit.", "B"),
    ("The statement that is true is C.", "C"),
    ("Statement C is true.", "C"),
    ("Among the options, C fits best.", "C"),
    ("Between B and C, I choose C.", "C"),
    ("Between A and B, A is better.", "A"),
    ("So the answer is A? No. B? Yes, the answer is B.", "B"),
    ("The answer is A... actually, the answer is C.", "C"),
    ("A, B, and C are all wrong. So the answer is D.", "D"),
    ("Of A, B, C and D, the best is C.", "C"),
    ("C (Rome)", "C"),
    ("C=Rome", "C"),
    ("C.Rome", "C"),
    ("C,Rome", "C"),
    ("C!", "C"),
    ("- C", "C"),
    ("1. C", "C"),
    ("1) C", "C"),
    ("> C", "C"),
    ("Sure! The answer is C.", "C"),
    ("Sure! C", "C"),
    ("Sure, C.", "C"),
    ("Correct: C", "C"),
    ("Solution: C", "C"),
    ("Selected: C", "C"),
    ("My choice: B", "B"),
    ("Choice: C", "C"),
    ("Response: C", "C"),
    ("Result: D", "D"),
    ("Letter: C", "C"),
    ("Label: B", "B"),
    ("Prediction: B", "B"),
    ("Output: C", "C"),
    ("Final: C", "C"),
    ("Final answer (C)", "C"),
    ("(C) is the answer.", "C"),
    ("C would be the correct answer.", "C"),
    ("C it is.", "C"),
    ("Definitely C.", "C"),
    ("Probably C.", "C"),
    ("Clearly C", "C"),
    ("I guess B", "B"),
    ("I vote B", "B"),
    ("The answer's C", "C"),
    ("answer is: \"C\"", "C"),
    ("The answer is letter C.", "C"),
    ("The answer is choice (C).", "C"),
    ("The answer is  <b>C</b>", "C"),
    ("<b>C</b>", "C"),
    ("\\text{C}", "C"),
    ("$\\text{C}$", "C"),
    ("\\(C\\)", "C"),
    ("The final answer is $\\boxed{\\text{C}}$", "C"),
    ("A dog is an animal. The answer is B", "B"),
    ("答案应为C", "C"),
    ("答案 ：C", "C"),
    ("正确答案是选项C。", "C"),
    ("正确答案是：C. 罗马", "C"),
    ("答案为C项", "C"),
    ("我的答案是C", "C"),
    ("我会选C", "C"),
    ("选C。因为罗马是首都", "C"),
    ("【答案】：C", "C"),
    ("〖答案〗C", "C"),
    ("[答案] C", "C"),
    ("<答案>C</答案>", "C"),
    ("《答案》C", "C"),
    ("正确的选项是C", "C"),
    ("正确选项应该是 (C)", "C"),
    ("所以答案就是C", "C"),
    ("因此正确的是C", "C"),
    ("因此，正确答案为：**C**", "C"),
    ("C是对的", "C"),
    ("C是正确答案", "C"),
    ("C正确，其余错误", "C"),
    ("只有C正确", "C"),
    ("只有C符合题意", "C"),
    ("由此可知C正确", "C"),
    ("故C正确，A、B、D错误", "C"),
    ("故答案为C", "C"),
    ("故本题选C", "C"),
    ("故本题答案为：C", "C"),
    ("故选项C正确", "C"),
    ("A项：错误。B项：错误。C项：正确。D项：错误。", "C"),
    ("A项，巴黎在法国，错误；\nB项，伦敦在英国，错误；\nC项，罗马在意大利，正确；\nD项，柏林，错误。", "C"),
    ("选项A：不正确\n选项B：不正确\n选项C：正确\n选项D：不正确", "C"),
    ("A、B、D三项均错误", "C"),
    ("ABD都错", "C"),
    ("ABD均不正确，故选C", "C"),
    ("Q: What? A: C", "C"),
    ("Q: Which?\nA: C", "C"),
]  # fmt: skip

NOT_GIVEN = [
    # Articles, pronouns, names, units.
    "A dog barks.", "A", "a cat", "A: Paris", "I think so.", "I do not know.", "Let's see.", "Dear reader, both are fine.", "It is A dog.",
    "The answer is a dog.", "The answer is A dog.", "The answer is vitamin C.", "Vitamin C helps.", "Caesar died in 44 B.C.",
    "He lives in Washington D.C.", "C++ is a language.", "The answer is C++.", "D-Day was in June.", "The answer is D-Day.", "It is B12.",
    "The answer is C major.", "Plan B worked.", "The answer is plan B.", "Hepatitis B and C are diseases.", "It is 25 °C.", "Type A+ blood",
    "C programming is hard.", "B vitamins help.", "R&D costs money.", "The answer is AT&T.", "B.C. is before Christ.", "A-levels are hard.",
    "C'est la vie.", "So I went home.", "So a dog barks.", "It is B-flat.", "B movies are cheap.",
    # Options quoted back, several letters.
    "A. Paris\nB. London\nC. Rome\nD. Berlin", "(A) Paris (B) London (C) Rome (D) Berlin", "A) Paris B) London C) Rome D) Berlin",
    "The options are A, B, C and D.", "Choose between A and B.", "Answer: A, B, C or D?", "The answer is A or B.", "Answer: A and C",
    "A, C", "AC", "It is either B or C.", "Both A and B are correct.", "A is correct and B is correct.",
    "Answer:\nA. Paris\nB. London\nC. Rome", "You could choose A or B.",
    # Negations, questions, conditions.
    "The answer is not B.", "It is not C.", "B is wrong.", "B is not correct.", "Neither A nor B is right.", "I would not choose C.",
    "Never pick D.", "Is B correct?", "Is it C?", "If the answer is B, then London is in Italy.", "Let us check whether the answer is B.",
    "The wrong answer is A.", "Option A speaks of Paris.", "The answer to option B is unclear.",
    # Refusals and other answers.
    "I cannot help with that.", "None of the above.", "ANSWER: None of the above", "ANSWER: Don't know", "Answer:", "Answer: 42", "E", "The answer is E.", "",
    # Chinese.
    "维生素C很重要。", "答案是B超。", "答案不是B。", "B不正确。", "B对吗？", "A还是B？", "选A还是选B？", "不选C", "别选D", "答案：A、C", "答案是A或B。", "AB都对",
    "选项A和选项B", "我不知道。", "C语言是一种语言。", "以上都不对。", "A股上涨了。", "如果答案是B，那么伦敦在意大利。", "很多人误选C。", "C对应罗马。",
    "A、巴黎\nB、伦敦\nC、罗马\nD、柏林", "公元前B.C.", "选C的人不少。",
    # Whole answers, hedges and quotations.
    "Let's analyze each option:\nA) Paris: not the capital.\nB) London: no.\nC) Rome: yes.\nD) Berlin: no.",
    "I am torn between A and B.",
    "A good question. Berlin is in Germany.",
    "A is for apple.",
    "I am sure.",
    "I. think",
    "D is the first letter of Denmark.",
    "B is in the middle of ABC.",
    "C is a programming language.",
    "We need B to get to C.",
    "Group A beat Group B.",
    "Figure A shows",
    "Section B. The text",
    "Dr. C. Smith",
    "A. B. Smith wrote it.",
    "C. S. Lewis wrote it.",
    "See answer A above.",
    "Student A said the answer is wrong.",
    "本题考查B超的原理",
    "维生素A、B、C都重要",
    "A选项和B选项都有道理",
    "A和B都对",
    "无法判断",
    "ABCD都不对",
    "答案是ABCD中的一个",
    "从A、B、C、D中选择一个",
    "请选择A、B、C或D",
    "A或者B",
    "A? B? C?",
    "A B C D",
    "Answer with A, B, C or D.",
    "Please answer A, B, C, or D.",
    "The answer cannot be B.",
    "The answer can't be B",
    "The answer is neither A nor B.",
    "The answer is none of A, B, C, D",
    "The answer is unclear: B or C.",
    "The answer isn't B.",
    "It can't be C.",
    "I doubt it's C",
    "I don't think it's C.",
    "I don't think B is correct.",
    "It is unlikely that B is correct.",
    "C is almost correct, but no.",
    "C is partially correct.",
    "C may be right.",
    "Some say C is correct.",
    "Would C be correct?",
    "Not C.",
    "非C",
    "C是错的",
    "As an AI, I cannot choose.",
    "D'accord.",
    "A+B=C",
    "A=5, B=6",
    "x = C",
    "C = 5",
    "f(C)",
    "The letter C appears twice.",
    "Option D costs $5.",
    "Answer B was given by two students.",
    "A: I don't know",
    "A: The capital is Rome",
]  # fmt: skip


@pytest.mark.parametrize(("text", "label"), GIVEN)
def test_an_answer_gives_a_letter(score: ScoreOf, text: str, label: str) -> None:
    assert score("choice", text, "A").answer == label


@pytest.mark.parametrize("text", [text for text in NOT_GIVEN if text != "A"])
def test_an_answer_gives_no_letter(score: ScoreOf, text: str) -> None:
    assert score("choice", text, "A").answer is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("It is Rome, not Paris.", "C"),
        ("Rome rather than London", "C"),
        ("Not Paris. Rome.", "C"),
        ("Paris, London and Rome are capitals. The answer is Rome.", "C"),
        ("The answer is the third option.", "C"),
        ("第三个选项", "C"),
        ("<answer>Rome</answer>", "C"),
        (r"Paris or Rome? \boxed{\text{Rome}}", "C"),
        ("A Paris", "A"),
        ("a paris", "A"),
        ("Paris, London, Rome", None),
        ("It is not Rome.", None),
        ("Neither Paris nor Rome.", None),
        ("Paris or Rome.", None),
        ("A dog in Rome", "C"),
        ("The answer is neither Paris nor Rome.", None),
    ],
)
def test_an_answer_names_the_text_of_an_option(
    score: ScoreOf, text: str, label: str | None
) -> None:
    assert score("choice", text, "A", options="options", at=CITIES).answer == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("positive", "positive"),
        ("The sentiment is positive.", "positive"),
        ("Sentiment: Negative", "negative"),
        ("It is positive, not negative.", "positive"),
        ("positive or negative", None),
        ("**neutral** because no feeling is shown", "neutral"),
    ],
)
def test_labels_may_be_classes(score: ScoreOf, text: str, label: str | None) -> None:
    labels = ["positive", "negative", "neutral"]
    assert score("choice", text, "positive", labels=labels).answer == label


@pytest.mark.timing
@pytest.mark.parametrize(
    "repeated",
    ["A, ", "answer to ", "A and ", "**", "A. x\n", "<answer>", "answer:", "A项，", "选A"],
)
def test_a_long_answer_takes_no_time(score: ScoreOf, repeated: str) -> None:
    started = perf_counter()
    score("choice", repeated * 4000, "A", options="options", at=CITIES)
    assert perf_counter() - started < 5
