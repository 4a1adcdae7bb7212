"""Personal data in the texts of rows, masked for those who see a page: `j***@example.com`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchgen.privacy.recognizers import PII_KINDS
from batchgen.privacy.redact import Redactor, mask_value

_TEXTS = frozenset(
    {"prompt", "answer", "base", "reasoning", "reference", "error", "scores", "base_scores"}
)


@dataclass(frozen=True, slots=True)
class TextMask:
    """Masks all kinds of personal data, as `redact` with `replacement: mask` does.

    Attributes:
        counts: how many values of each kind were masked.
    """

    counts: Counter[str] = field(default_factory=Counter)

    def record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A record of a report with its texts masked; id, slices and reasons stay."""
        return {key: self.texts(one) if key in _TEXTS else one for key, one in record.items()}

    def texts(self, value: Any) -> Any:  # noqa: ANN401  # JSON
        """A value in which all texts are masked; keys and numbers stay."""
        if isinstance(value, str):
            found = Redactor(PII_KINDS, mask_value).redact(value)
            self.counts.update(found.counts)
            return found.text
        if isinstance(value, dict):
            return {key: self.texts(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.texts(one) for one in value]
        return value
