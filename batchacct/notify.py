"""systemd's notifications; comes with the units."""

from __future__ import annotations


class Notifier:
    watchdog_s: float | None = None

    @classmethod
    def from_environment(cls) -> Notifier:
        return cls()

    def ready(self) -> None: ...
    def stopping(self) -> None: ...
    def reloading(self) -> None: ...
    def watchdog(self) -> None: ...
    def status(self, text: str) -> None: ...
