"""Which keys name secrets, so that their values are never printed or stored."""

import re

_SECRET = re.compile(
    r"(^|[_-])(api_?key|access_?key|token|password|passwd|secret|credential)s?$", re.IGNORECASE
)
_TOKEN_OF_A_VOCABULARY = re.compile(r"^(bos|eos|pad|unk|sep|cls|mask)_token$", re.IGNORECASE)


def looks_secret(key: str) -> bool:
    """Whether a key names a secret: `api_key`, `hub_token`, `password`; but not `eos_token`."""
    return bool(_SECRET.search(key)) and not _TOKEN_OF_A_VOCABULARY.match(key)
