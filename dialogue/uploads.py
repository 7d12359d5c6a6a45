"""Pictures that come over a websocket: an announcement, then one binary frame. Knows no socket and no store."""

from dataclasses import dataclass

from visavis.dialogue.commands import ImageCommand
from visavis.dialogue.errors import BadRequest
from visavis.dialogue.images import too_many_bytes
from visavis.dialogue.limits import ImageLimits


@dataclass
class PictureInbox:
    """What has been announced and not come yet."""

    limits: ImageLimits
    announced: ImageCommand | None = None
    _skips_binary: bool = False

    def announce(self, command: ImageCommand) -> None:
        """Expect a picture; raises `ImageTooLarge` for one that need not be sent."""
        if command.bytes > self.limits.max_bytes:
            error = too_many_bytes(command.bytes, self.limits)
            error.id = command.id
            raise error
        self.announced, self._skips_binary = command, False

    def refuse(self) -> None:
        """The announcement at hand is refused: what follows it will be passed over."""
        self.announced, self._skips_binary = None, True

    def interrupt(self) -> str | None:
        """A text frame has come; gives the id of the picture that should have come instead."""
        announced, self.announced, self._skips_binary = self.announced, None, False
        return None if announced is None else announced.id

    def take(self, data: bytes) -> str | None:
        """The id of the picture that has come; None when it belongs to an announcement that was refused.

        Raises:
            BadRequest: nothing was announced, or a frame of another length.
        """
        announced, self.announced = self.announced, None
        if announced is None:
            if not self._skips_binary:
                raise BadRequest("Expected an 'image' command before a binary frame.")
            self._skips_binary = False
            return None
        if len(data) != announced.bytes:
            came = f"Expected {announced.bytes:,} bytes in the picture's frame, got {len(data):,}."
            raise BadRequest(came, id=announced.id)
        return announced.id
