"""The texts of the review page in English and Chinese."""

from collections.abc import Mapping

from batchgen.report.page_text import SCRIPT_TEXTS as REPORT_TEXTS

TEXTS: Mapping[str, tuple[str, str]] = {
    "theme": ("Light / dark", "浅色 / 深色"),
    "made_by": (
        "Made by batchgen {version}. This file loads nothing from any network; votes stay in this browser until you download them.",
        "由 batchgen {version} 生成。本文件不从网络加载任何内容；在您下载之前，评审结果只保存在本浏览器中。",
    ),
    "served_by": (
        "Served by batchgen {version} on this machine. Each vote is on disk before the page shows it as saved.",
        "本页面由本机的 batchgen {version} 提供。页面显示“已保存”时，评审结果已写入磁盘。",
    ),
    "your_name": ("Your name", "您的姓名"),
    "name_note": (
        "Votes are saved under this name. A pseudonym is enough; use the same one next time.",
        "评审结果以此姓名保存。可以用化名，下次请用同一个名字。",
    ),
    "begin": ("Begin", "开始"),
    "no_script": (
        "This page needs its script, which is switched off.",
        "本页需要脚本，而脚本已被禁用。",
    ),
    "keys": ("Keys", "快捷键"),
    "key_rate": ("rate: 1 is the worst, 5 the best", "评分：1 最差，5 最好"),
    "key_pass": ("pass, fail", "通过、不通过"),
    "key_labels": ("labels", "标签"),
    "key_choose": (
        "A is better, B is better, tie, both bad",
        "A 更好、B 更好、不分上下、都不好",
    ),
    "key_edit": ("edit the answer", "修改回答"),
    "key_flag": ("flag: unsafe, private, wrong", "标记：不安全、涉及隐私、错误"),
    "key_comment": ("comment", "备注"),
    "key_skip": ("skip", "跳过"),
    "key_undo": ("undo the last vote", "撤销上一次操作"),
    "key_move": ("next, previous", "下一条、上一条"),
    "key_show": ("show or hide prompt, reference, scores", "显示或隐藏提示词、参考答案、分数"),
    "key_panel": ("save a text, close without saving", "保存文本、关闭（不保存）"),
    "rubric": ("What a good answer is", "评审标准"),
}

SCRIPT_TEXTS: Mapping[str, tuple[str, str]] = {
    **{
        key: REPORT_TEXTS[key]
        for key in (
            *("prompt", "answer", "earlier", "reasoning", "reference", "scores", "no_answer"),
            *("characters_more", "sample", "extracted", "system", "user", "assistant"),
        )
    },
    "answer_a": ("Answer A", "回答 A"),
    "answer_b": ("Answer B", "回答 B"),
    "input": ("Input", "输入"),
    "answer_cut": ("cut at the token limit", "达到长度上限被截断"),
    "progress": ("{done} of {all} done", "已完成 {done} / {all}"),
    "place": ("{n} of {all}", "第 {n} 条，共 {all} 条"),
    "everyone": ("Done by: {names}", "各人完成数：{names}"),
    "raters": ("Already rated by {names}", "已由 {names} 评过"),
    "as": ("as {name}", "评审人：{name}"),
    "change_name": ("Change name", "更换姓名"),
    "next_auto": ("Go to the next answer after a rating", "评分后自动转到下一条"),
    "scores_hidden": (
        "Scores are hidden until you have rated.",
        "评分之前不显示分数。",
    ),
    "show_prompt": ("Prompt", "提示词"),
    "show_reference": ("Reference", "参考答案"),
    "show_scores": ("Scores", "分数"),
    "worst": ("worst", "最差"),
    "best": ("best", "最好"),
    "pass": ("Pass", "通过"),
    "fail": ("Fail", "不通过"),
    "choose_a": ("A is better", "A 更好"),
    "choose_b": ("B is better", "B 更好"),
    "choose_tie": ("Tie", "不分上下"),
    "choose_both_bad": ("Both bad", "都不好"),
    "labels": ("Labels", "标签"),
    "edit": ("Edit", "修改"),
    "flag": ("Flag", "标记"),
    "comment": ("Comment", "备注"),
    "skip": ("Skip", "跳过"),
    "undo": ("Undo", "撤销"),
    "previous": ("Previous", "上一条"),
    "next": ("Next", "下一条"),
    "save": ("Save", "保存"),
    "close": ("Close", "关闭"),
    "unsafe": ("unsafe", "不安全"),
    "private": ("private", "涉及隐私"),
    "wrong": ("wrong", "错误"),
    "edit_title": ("The answer as it should be", "修改后的回答"),
    "comment_title": ("Comment on this answer", "对该回答的备注"),
    "flag_title": ("What is wrong with the answer?", "该回答有什么问题？"),
    "labels_title": ("Labels of this answer", "该回答的标签"),
    "which": ("About answer", "针对回答"),
    "mine": ("Your votes", "您的评审结果"),
    "mine_rating": ("rating {value}", "评分 {value}"),
    "mine_pass": ("pass", "通过"),
    "mine_fail": ("fail", "不通过"),
    "mine_edit": ("edited", "已修改"),
    "mine_edit_at": ("{place} edited", "已修改 {place}"),
    "mine_flag_at": ("{place}: {labels}", "{place}：{labels}"),
    "mine_skip": ("skipped", "已跳过"),
    "edited_text": ("Your version", "您修改后的版本"),
    "saved": ("saved", "已保存"),
    "saving": ("saving …", "正在保存……"),
    "unsaved": (
        "{n} not saved yet: the server does not answer. The page tries again; leave it open.",
        "有 {n} 项尚未保存：服务器没有响应。页面会继续重试，请不要关闭。",
    ),
    "refused": (
        "The server rejects this page: it was started again. Open its new link in this browser; {n} unsaved votes are kept "
        "here and sent then.",
        "服务器拒绝本页面：服务已重新启动。请在本浏览器中打开新的链接；{n} 项未保存的评审结果保留在此，打开新链接后会发送。",
    ),
    "failed": ("Not saved: {error}", "未保存：{error}"),
    "unloaded": ("The answer cannot be loaded: {error}", "无法加载回答：{error}"),
    "unchanged": ("The text is unchanged: nothing was saved.", "文本未改动，未保存。"),
    "too_long_to_edit": (
        "This answer is too long to be edited here.",
        "该回答过长，无法在此修改。",
    ),
    "nothing_to_undo": ("There is nothing to undo.", "没有可撤销的操作。"),
    "undone": ("undone: {what}", "已撤销：{what}"),
    "finished": ("All answers are done. Thank you.", "全部完成，谢谢！"),
    "finished_note": (
        "Go back with p to change a rating.",
        "按 p 可返回修改评分。",
    ),
    "download": ("Download ratings.jsonl", "下载 ratings.jsonl"),
    "download_note": (
        "Send this file to the person who gave you the page; batchgen feedback import reads it.",
        "请把该文件发给交给您此页面的人，由其用 batchgen feedback import 导入。",
    ),
    "kept": ("kept in this browser", "已保存在本浏览器"),
    "not_kept": (
        "This browser keeps nothing: download the file before you close the page.",
        "本浏览器无法保存数据：关闭页面前请先下载文件。",
    ),
    "bad_name": (
        'A name may not be empty, nor contain / \\ : * ? " < > |, nor begin with a dot, nor end with one.',
        '姓名不能为空，不能含 / \\ : * ? " < > |，首尾不能是点。',
    ),
    "why_flip": ("a judge changed its verdict with the order", "裁判模型的结论随顺序改变"),
    "why_disagree": ("judge and metric disagree", "裁判模型与指标不一致"),
    "why_near": ("close to the threshold of a gate", "接近门禁的阈值"),
}
