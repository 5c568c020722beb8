"""Carrying records from the spool to billing, in a thread that no request waits for.

Records go in batches and stay in the spool until billing has answered 2xx. What billing refuses as wrong
(400, 422) is cut down to the record at fault, which is put aside: one bad record must not hold up the rest.
"""

import http.client
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import structlog

from headrace_contracts.engine import EngineRecord, EngineRecordBatch, decode_record, encode_records
from headrace_platform.serving.spool import Segment, Spool, segments, taken_over

# Half of what one request of billing's may hold, and a body that it reads in a breath.
BATCH_RECORDS_MAX = 500
BATCH_BYTES_MAX = 256 * 1024

# After a record was written, so that those of one moment go together.
LINGER_SECONDS = 0.2
# Without any news: how soon a dead neighbour's spool is found.
IDLE_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 10.0
BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 30.0
# At a clean stop: billing is there or isn't; the next start ships what is left.
STOP_TIMEOUT_SECONDS = 5.0

REFUSED_FILE = "refused.records"

log = structlog.get_logger()


class Undelivered(Exception):
    """Billing can't be reached or can't take records now; they are sent again."""


class Refused(Exception):
    """Billing says that something in this batch is wrong, and would say so again."""


class Billing:
    """`POST …/internal/v1/engine-records`."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None, "RECORDS_URL names no host"
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port
        self._path = parts.path
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, records: list[EngineRecord]) -> None:
        """Returns when billing has them. Raises `Undelivered`, `Refused`."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=REQUEST_TIMEOUT_SECONDS)
        try:
            body = encode_records(EngineRecordBatch(records=records))
            connection.request("POST", self._path, body, self._headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise Undelivered(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if status in (http.HTTPStatus.BAD_REQUEST, http.HTTPStatus.UNPROCESSABLE_ENTITY):
            raise Refused(f"billing answered {status}")
        if not http.HTTPStatus.OK <= status < http.HTTPStatus.MULTIPLE_CHOICES:
            raise Undelivered(f"billing answered {status}")


class Shipper:
    def __init__(self, spool: Spool, billing: Billing) -> None:
        self._spool = spool
        self._billing = billing
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="records-shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notice(self) -> None:
        """Something was appended."""
        self._news.set()

    def stop(self) -> None:
        """Ships what there is, if billing takes it at once."""
        self._stopping.set()
        self._news.set()
        self._thread.join(STOP_TIMEOUT_SECONDS)

    def ship(self) -> None:
        """One round over all that is in the folder. Raises `Undelivered`."""
        self._spool.sync()
        for segment in segments(self._spool.folder):
            if segment.path == self._spool.current:
                self._drain(segment)
                continue
            with taken_over(segment) as ours:
                if ours:
                    self._drain(segment)
                    self._forget(segment)

    def _run(self) -> None:
        backoff_seconds = 0.0
        while not self._stopping.is_set():
            if backoff_seconds:
                self._stopping.wait(backoff_seconds)
            elif self._news.wait(IDLE_SECONDS):
                self._stopping.wait(LINGER_SECONDS)
            self._news.clear()
            try:
                self.ship()
            except Undelivered as error:
                if not backoff_seconds:
                    log.warning("engine_records_waiting", reason=str(error))
                backoff_seconds = min(max(2 * backoff_seconds, BACKOFF_SECONDS_MIN), BACKOFF_SECONDS_MAX)
            except OSError as error:
                log.error("engine_records_unreadable", reason=str(error))  # noqa: TRY400 (no trace of interest)
                backoff_seconds = BACKOFF_SECONDS_MAX
            else:
                if backoff_seconds:
                    log.info("engine_records_flow_again")
                backoff_seconds = 0.0
        with suppress(Undelivered, OSError):
            self.ship()

    def _drain(self, segment: Segment) -> None:
        while True:
            lines, end = segment.lines(count_max=BATCH_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX)
            if not lines:
                return
            self._deliver([record for line in lines if (record := self._read(line)) is not None])
            segment.acknowledge(end)

    def _read(self, line: bytes) -> EngineRecord | None:
        try:
            return decode_record(line)
        except msgspec.MsgspecError as error:
            self._put_aside(line, str(error))
            return None

    def _deliver(self, records: list[EngineRecord]) -> None:
        if not records:
            return
        try:
            self._billing.post(records)
        except Refused as error:
            if len(records) == 1:
                self._put_aside(msgspec.json.encode(records[0]), str(error))
                return
            half = len(records) // 2
            self._deliver(records[:half])
            self._deliver(records[half:])

    def _put_aside(self, line: bytes, reason: str) -> None:
        log.error("engine_record_refused", reason=reason)
        with Path(self._spool.folder, REFUSED_FILE).open("ab") as file:
            file.write(line + b"\n")

    def _forget(self, segment: Segment) -> None:
        torn = segment.path.stat().st_size - segment.acknowledged
        if torn:
            log.warning("engine_record_torn", file=segment.path.name, octets=torn)
        segment.delete()
