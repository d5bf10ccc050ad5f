"""The model card: what a saved model is and how it is loaded, as Markdown."""

from typing import Any

from pairfuse.saving.files import CARD_MARK


def write_card(name: str, comparator: dict[str, Any], versions: str, decision: Any, report: Any) -> str:
    """Return the model card of a comparator.

    Args:
        name: What to load it by, in the example.
        comparator: The description of the comparator.
        versions: The versions with which it was saved.
        decision: Its decision, or None.
        report: The report of an evaluation, or None. `str(report)` is a table.
    """
    sides = [side for side in ("encoder", "right_encoder", "fusion", "head") if comparator[side] is not None]
    own = [side for side in sides if "own" in comparator[side]]
    arguments = "".join(f", {side}=..." for side in own)
    rows = "\n".join(f"| {side.replace('_', ' ')} | {_in_words(comparator[side])} |" for side in sides)
    text = f"""---
library_name: pairfuse
tags: [pairfuse, siamese, similarity]
---
{CARD_MARK}

# A comparison of pairs

This model answers for two things whether they are the same. Higher scores mean "more the same".

```python
import pairfuse as pf

model = pf.SiameseComparator.from_pretrained({name!r}{arguments})
```

| part | |
|---|---|
{rows}

Saved with {versions}.
"""
    if decision is not None:
        text += f"\n## Decision\n\n`model.same(x1, x2)` answers by this decision.\n\n```text\n{decision}\n```\n"
    if report is not None:
        text += f"\n## Evaluation\n\n```text\n{report}\n```\n"
    return text


def _in_words(part: dict[str, Any]) -> str:
    if "own" in part:
        return f"`{part['own']}` with {part['parameters']:,} parameters, to be passed to `from_pretrained`"
    return f"`{_short(part)}`"


def _short(part: dict[str, Any]) -> str:
    """Return a part with its options, and the parts in it, as Python would print them."""
    words = []
    for key, value in part["options"].items():
        nested = [x for x in (value if isinstance(value, list) else [value]) if isinstance(x, dict)]
        words += [_short(x) for x in nested] or [f"{key}={value!r}"]
    return f"{part['type']}({', '.join(words)})"
