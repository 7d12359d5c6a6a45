"""What a client may send, and how turns are paced. Plain numbers; the settings that fill them live elsewhere."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageLimits:
    """Bounds of an uploaded picture and the longest side (pixels) it is shrunk to."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 40_000_000
    max_side: int = 1024


@dataclass(frozen=True)
class Limits:
    """What one client may send; told to it in `ready`.

    The rates are a person's (of nobody's conversation: the session's); an address may do as much as
    `persons_per_address` of them, for many may stand behind it.
    """

    image: ImageLimits = ImageLimits()
    max_images: int = 8
    max_characters: int = 4_000
    max_frame_bytes: int = 64 * 1024
    max_waiting_turns: int = 8
    turns_per_minute: int = 60
    images_per_minute: int = 60
    requests_per_minute: int = 600
    persons_per_address: int = 10
    sockets_per_session: int = 20
    sockets_per_address: int = 200
    hello_timeout_s: float = 20.0
    send_timeout_s: float = 10.0


@dataclass(frozen=True)
class Persona:
    """Whom the operator lets the assistant be; told to clients in `ready`."""

    name: str = ""
    greeting: str = ""


@dataclass(frozen=True)
class ModelCard:
    """A model that a turn may name; told to clients in `ready`. `remote`: what is said to it leaves the machine."""

    name: str
    pictures: bool = True
    remote: bool = False


@dataclass(frozen=True)
class TurnPolicy:
    """How a turn is run and watched over.

    lease_s: how long a session stays with a process that went silent; renew_s must be well below it.
    flush_s: least time between two replay writes of a turn, unread_flush_s: while no other process reads them.
    poll_s: how often a turn run elsewhere is looked at. sweep_s: how often turns left behind by a dead process are
    looked for. watch_s: how long a turn that nobody follows goes on.
    """

    lease_s: float = 6.0
    renew_s: float = 1.0
    flush_s: float = 0.1
    unread_flush_s: float = 0.5
    poll_s: float = 0.1
    sweep_s: float = 3.0
    turn_timeout_s: float = 300.0
    finish_patience_s: float = 120.0
    watch_s: float = 120.0
    max_deaths: int = 2
