"""The schemas of what the API answers, for its OpenAPI document."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
COUNT: Schema = {"type": "integer", "minimum": 0}
SESSION: Schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
PICTURE: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
RESPONSES: Schema = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {"message": TEXT, "type": TEXT, "param": MAYBE_TEXT, "code": TEXT},
            }
        },
    },
    "Completion": {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage", "visavis"],
        "properties": {
            "id": TEXT,
            "object": {"const": "chat.completion"},
            "created": COUNT,
            "model": TEXT,
            "choices": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1,
                "items": {
                    "type": "object",
                    "required": ["index", "message", "finish_reason"],
                    "properties": {
                        "index": {"const": 0},
                        "message": {
                            "type": "object",
                            "required": ["role", "content"],
                            "properties": {"role": {"const": "assistant"}, "content": TEXT},
                        },
                        "finish_reason": {"enum": ["stop", "length", "content_filter"]},
                    },
                },
            },
            "usage": {
                "type": "object",
                "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
                "properties": {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
            },
            "visavis": {
                "type": "object",
                "required": ["confidence", "image", "finish_reason"],
                "properties": {
                    "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
                    "image": {"anyOf": [PICTURE, {"type": "null"}]},
                    "images": {
                        "type": ["array", "null"],
                        "items": PICTURE,
                        "description": "All that the model was shown; null if it does not say.",
                    },
                    "finish_reason": MAYBE_TEXT,
                    "model": MAYBE_TEXT | {"description": "Who answered, when it may have been a fall-back."},
                    "session": SESSION,
                    "turn": TEXT,
                    "explanation": {
                        "type": ["object", "null"],
                        "required": ["image", "grid", "answer", "words"],
                        "description": "Maps are base64 of uint8, row by row, each scaled to its maximum.",
                        "properties": {
                            "image": PICTURE,
                            "grid": {"type": "array", "items": COUNT, "minItems": 2, "maxItems": 2},
                            "answer": TEXT,
                            "words": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["start", "end", "map"],
                                    "properties": {"start": COUNT, "end": COUNT, "map": TEXT},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
    "AltText": {"type": "object", "required": ["alt"], "properties": {"alt": TEXT}},
    "Embeddings": {
        "type": "object",
        "required": ["object", "data", "model", "usage"],
        "properties": {
            "object": {"const": "list"},
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["object", "index", "embedding"],
                    "properties": {
                        "object": {"const": "embedding"},
                        "index": COUNT,
                        "embedding": {"anyOf": [{"type": "array", "items": {"type": "number"}}, TEXT]},
                    },
                },
            },
            "model": TEXT,
            "usage": {
                "type": "object",
                "required": ["prompt_tokens", "total_tokens"],
                "properties": {"prompt_tokens": COUNT, "total_tokens": COUNT},
            },
        },
    },
    "Model": {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {"id": TEXT, "object": {"const": "model"}, "created": COUNT, "owned_by": TEXT},
    },
    "ModelList": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
        },
    },
    "Session": {
        "type": "object",
        "required": ["object", "id"],
        "properties": {"object": {"const": "session"}, "id": SESSION},
    },
    "Forgotten": {
        "type": "object",
        "required": ["object", "id", "deleted", "turns", "images"],
        "properties": {
            "object": {"const": "session.deleted"},
            "id": SESSION,
            "deleted": {"const": True},
            "turns": COUNT,
            "images": COUNT,
        },
    },
    "Picture": {
        "type": "object",
        "required": ["image", "width", "height", "mime", "bytes"],
        "properties": {"image": PICTURE, "width": COUNT, "height": COUNT, "mime": TEXT, "bytes": COUNT},
    },
}
