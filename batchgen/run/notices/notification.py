"""One POST request to the address of `--notify` when a run has ended. It never changes the result of the run."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from batchgen.run.notices.run_notice import RunNotice

NotificationFormat = Literal["json", "slack", "feishu", "dingtalk", "wecom"]
TIMEOUT_SECONDS = 10.0
_FORMAT_OF_HOST: Mapping[str, NotificationFormat] = {
    "hooks.slack.com": "slack",
    "open.feishu.cn": "feishu",
    "open.larksuite.com": "feishu",
    "oapi.dingtalk.com": "dingtalk",
    "qyapi.weixin.qq.com": "wecom",
}
_STATUS_KEYS = ("code", "errcode")
_MOST_BYTES = 1 << 16


def _json(notice: RunNotice) -> dict[str, Any]:
    return {"event": "run_ended", **asdict(notice), "exit_code": int(notice.exit_code)}


_BODIES: Mapping[NotificationFormat, Callable[[RunNotice], dict[str, Any]]] = {
    "json": _json,
    "slack": lambda notice: {"text": notice.describe()},
    "feishu": lambda notice: {"msg_type": "text", "content": {"text": notice.describe()}},
    "dingtalk": lambda notice: {"msgtype": "text", "text": {"content": notice.describe()}},
    "wecom": lambda notice: {"msgtype": "text", "text": {"content": notice.describe()}},
}
FORMATS: tuple[NotificationFormat, ...] = tuple(_BODIES)


@dataclass(frozen=True, slots=True)
class Notification:
    """Where a notice is sent, and as what.

    Attributes:
        url: as given; it may contain a secret, and is never printed.
        format: None for that of the host, which is `json` for an unknown one.
    """

    url: str
    format: NotificationFormat | None = None

    @property
    def host(self) -> str:
        """The host, for messages."""
        try:
            return urlsplit(self.url).hostname or ""
        except ValueError:
            return ""

    def problem(self) -> str:
        """Why nothing can be sent to this address; empty if it can be tried."""
        try:
            scheme = urlsplit(self.url).scheme
        except ValueError:
            scheme = ""
        if scheme not in ("http", "https") or not self.host:
            return "--notify: expected an address such as https://HOST/PATH"
        return ""

    def body(self, notice: RunNotice) -> dict[str, Any]:
        """The JSON object that is sent."""
        return _BODIES[self.format or _FORMAT_OF_HOST.get(self.host, "json")](notice)

    def send(self, notice: RunNotice, *, timeout: float = TIMEOUT_SECONDS) -> str:
        """Send the notice once, without a proxy; return why that failed, or an empty text.

        `timeout` limits connecting, sending and each wait for data, and the whole response, each in seconds.
        """
        if problem := self.problem():
            return problem
        import httpx2

        try:
            # Proxies and .netrc of the environment would send it elsewhere.
            with (
                httpx2.Client(timeout=timeout, trust_env=False) as client,
                client.stream("POST", self.url, json=self.body(notice)) as response,
            ):
                content = _start_of(response.iter_bytes(), time.monotonic() + timeout)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            return f"{self.host}: {type(error).__name__}"
        if not response.is_success:
            return f"{self.host}: HTTP status {response.status_code}"
        if rejected := _rejection(content):
            return f"{self.host}: {rejected}"
        return ""


def _start_of(chunks: Iterable[bytes], limit: float) -> bytes:
    content = b""
    for chunk in chunks:
        content += chunk
        if len(content) > _MOST_BYTES or time.monotonic() > limit:
            break
    return content


def _rejection(content: bytes) -> str:
    """The error that a chat service reports in a response with HTTP status 200; empty without one."""
    try:
        answer = json.loads(content)
    except ValueError:  # such as "ok"
        return ""
    codes = {key: answer.get(key) for key in _STATUS_KEYS} if isinstance(answer, dict) else {}
    return ", ".join(
        f"{key} {code}" for key, code in codes.items() if isinstance(code, int) and code
    )
