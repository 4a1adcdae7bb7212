"""The keys of the manifest that the page shows, in words. Keys of the job keep their names: people write them."""

from collections.abc import Mapping

PROVENANCE_KEYS: Mapping[str, tuple[str, str]] = {
    "job": ("job", "任务"),
    "run_id": ("run id", "运行编号"),
    "fingerprint": ("fingerprint", "指纹"),
    "started_at": ("started", "开始时间"),
    "finished_at": ("finished", "完成时间"),
    "seconds": ("seconds", "用时（秒）"),
    "scored": ("scored file", "被评分的文件"),
    "engine": ("engine", "引擎"),
    "tier": ("tier", "计算方式"),
    "tier_reason": ("why this tier", "选用该方式的原因"),
    "token_exact": ("tokens are exact", "token 精确"),
    "batch_invariant": ("independent of the batch", "与批次无关"),
    "batch_invariant_reason": ("why", "原因"),
    "requests": ("requests", "请求数"),
    "device": ("device", "设备"),
    "dtype": ("number format", "数值格式"),
    "workers": ("workers", "工作进程"),
    "mfu": ("utilization (MFU)", "利用率（MFU）"),
    "useful_token_share": ("useful tokens", "有效 token 比例"),
    "name": ("name", "名称"),
    "source": ("source", "来源"),
    "revision": ("revision", "版本"),
    "parameters": ("parameters", "参数量"),
    "context_length": ("context length", "上下文长度"),
    "python": ("Python", "Python"),
}
"""English and Chinese by key, in the groups run, model, engine and versions."""
