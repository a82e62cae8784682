"""What operators hear of the request log: log lines."""

import structlog

log = structlog.get_logger("throttling_sequencer.request_log")


class LoggedRequestLogEvents:
    """Writes one line for each thing that `RequestLogEvents` tells."""

    def interrupted(self, reason: str) -> None:
        log.warning("request log waits for its storage", reason=reason)

    def resumed(self, dropped: int) -> None:
        log.info("request log is written again", dropped=dropped)

    def dropping(self, capacity: int) -> None:
        log.warning("request log is full and drops requests", capacity=capacity)

    def failed(self, error: Exception) -> None:
        log.error("request log was refused by its storage", exc_info=error)

    def left_behind(self, number: int) -> None:
        log.warning("request log ends with requests that were not written", requests=number)
