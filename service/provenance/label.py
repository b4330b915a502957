"""Labels in a file's metadata that say: made by AI. Plain text, read by any player; gone after a re-encode.

The key AIGC and its fields are those of China's GB 45438-2025, appendix E.
"""

import json

LABEL_TAG = "AIGC"
IS_GENERATED = "1"
"""The standard's word for "certainly made by AI"."""


def label_tags(*, producer: str, asset_id: str) -> dict[str, str]:
    """Tags of a file that we made. producer: a name or a code of whoever runs the service."""
    label = {
        "Label": IS_GENERATED,
        "ContentProducer": producer,
        "ProduceID": asset_id,
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    return {
        LABEL_TAG: json.dumps(label, ensure_ascii=False, separators=(",", ":")),
        "description": "AI-generated video / 人工智能生成的视频",
    }


def read_label(text: str) -> dict[str, str] | None:
    """The label that a tag holds; None where it is none."""
    try:
        label = json.loads(text)
    except ValueError:
        return None
    if not isinstance(label, dict) or not isinstance(label.get("Label"), str):
        return None
    return {str(name): str(value) for name, value in label.items()}
