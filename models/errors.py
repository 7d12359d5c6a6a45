"""What can go wrong between a request and its answer: one tree, every error with a stable code that a client may see.

The text of an error is one sentence fit for a person; it never holds a traceback or a path of this machine's packages.

    ModelError (model_error)
    ├── BadRequest (bad_request)
    │   └── TextTooLong (too_long)
    ├── BadImage (bad_image)
    │   ├── ImageTooLarge (image_too_large)
    │   └── UnsupportedImage (unsupported_image)
    ├── UnknownImage (unknown_image)
    ├── Busy (busy)
    ├── NoSharedSpace (no_shared_space)
    └── ServerLost (model_error)
"""

from __future__ import annotations

from collections.abc import Sequence


class ModelError(Exception):
    """The model or its files failed; `code` is what clients see. A `code` given here is one that a server answered."""

    code: str = "model_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class BadRequest(ModelError):
    """The request does not have the expected form."""

    code = "bad_request"


class TextTooLong(BadRequest):
    """A text is longer than the limit."""

    code = "too_long"


class BadImage(ModelError):
    """The bytes are not a whole picture, or not the picture that their name promises."""

    code = "bad_image"


class ImageTooLarge(BadImage):
    """More bytes or more pixels than the limit."""

    code = "image_too_large"


class UnsupportedImage(BadImage):
    """A picture format that is not read here."""

    code = "unsupported_image"


class UnknownImage(ModelError):
    """Pictures that the engine does not hold; send their bytes and repeat the request."""

    code = "unknown_image"

    def __init__(self, images: Sequence[str]) -> None:
        super().__init__(f"the model does not hold these pictures yet: {', '.join(images)}")
        self.images = tuple(images)


class Busy(ModelError):
    """The queue is full; `waiting` is its length."""

    code = "busy"

    def __init__(self, waiting: int) -> None:
        super().__init__(f"too many questions are waiting ({waiting}): try again in a moment")
        self.waiting = waiting


class NoSharedSpace(ModelError):
    """The model cannot tell how well a text fits a picture without answering a question about it."""

    code = "no_shared_space"

    def __init__(self) -> None:
        super().__init__(
            "this model has no shared space of pictures and texts, so it cannot search; train one with itc"
        )


class ServerLost(ModelError):
    """The model server cannot be reached, or `broke_off` in the middle of a request; it may well come back."""

    def __init__(self, *, broke_off: bool) -> None:
        what = "the connection to the model server broke off" if broke_off else "the model server cannot be reached"
        super().__init__(what)
        self.broke_off = broke_off
