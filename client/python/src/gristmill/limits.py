"""The limits that clients and workers keep, with their reasons. They are those of `protocol/src/limits.rs`."""

from __future__ import annotations

SHARDS = 16
"""Parts that runs are divided into."""
MESSAGE_BYTES_MAX = 256 * 1024
"""Bytes of a message on the broker: larger ones slow a broker down."""
SUBMISSIONS_MAX = 1_000
"""Submissions in one message or request: after so many others have their turn."""
FINISH_REPORTS_MAX = 256
"""Reports in one call, so that it holds the store for under a millisecond."""
OUTPUT_BYTES_MAX = 1024
"""Bytes of a task's output, which stays in the scheduler's memory; data goes into artifacts."""
ATTEMPT_LOG_BYTES_MAX = 64 * 1024
"""Bytes of what an attempt prints and logs that are kept: its end, which people read; a thousand lines."""
ERROR_TEXT_BYTES_MAX = 4 * 1024
"""Bytes of an error's text; a longer one is cut in the middle."""
INBOX_MAX = 100_000
"""Entries in a shard's inbox, past which claims answer busy."""
HEARTBEAT_S = 1.0
"""Seconds between a worker's heartbeats."""
LEASE_MS = 6_000
"""Milliseconds for which a lease holds without a heartbeat."""
STORE_CALL_S = 2.0
"""Seconds after which a call to the store counts as having an unknown outcome."""
REASSERT_S = 5.0
"""Seconds for which finished reports are kept, to be sent again when the store went back."""
DRAIN_S = 25.0
"""Seconds from SIGTERM to handing back what still runs: under the 30 s of common orchestrators."""
ACK_AFTER_S = 1.0
"""Seconds after the claim at which a message is acknowledged though its work still runs."""
UNSTARTED_RETURN_S = 0.5
"""Seconds after the claim at which unstarted attempts are handed back."""
