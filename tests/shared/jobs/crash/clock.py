"""Time in a database that jumps to the next moment at which something is due, so that nobody waits."""

from __future__ import annotations

import psycopg

# Every moment that the job core compares with now().
_TIMES = {
    "public.training_jobs": ("submitted_at", "deadline_at", "cancel_requested_at", "started_at"),
    "private.training_job_control": (
        "lease_expires_at",
        "next_poll_at",
        "status_since",
        "claimed_at",
        "not_found_since",
    ),
    "private.provider_attempts": ("submitted_at", "next_sweep_at", "lease_expires_at"),
    "private.provider_breakers": ("open_until",),
}
_NEXT = """
    select extract(epoch from min(due) - now()) from (
      select greatest(c.next_poll_at, c.lease_expires_at, b.open_until) as due
        from private.training_job_control c
        join public.training_jobs j on j.id = c.job_id
        left join private.provider_breakers b on b.provider = j.provider and b.user_id = j.user_id
        where c.next_poll_at < 'infinity' and j.status not in ('completed', 'failed', 'cancelled')
      union all
      select greatest(a.next_sweep_at, a.lease_expires_at) from private.provider_attempts a
        where a.next_sweep_at < 'infinity') as moments
"""
_EPSILON_SECONDS = 0.001


class DatabaseClock:
    """Moves every stored moment back, which is the same as moving now() on."""

    def __init__(self, database: psycopg.Connection) -> None:
        self._database = database
        # Ended rows do not change any more, nor does a row get a new version: nothing happened to it.
        database.execute("set session_replication_role = replica")

    def jump(self, most_seconds: float) -> float | None:
        """Something is due now; so many seconds have passed. None: nothing will be due for most_seconds."""
        row = self._database.execute(_NEXT).fetchone()
        if row is None or row[0] is None or row[0] > most_seconds:
            return None
        seconds = max(float(row[0]) + _EPSILON_SECONDS, 0.0)
        if seconds:
            for table, columns in _TIMES.items():
                moved = ", ".join(f"{name} = {name} - make_interval(secs => {seconds})" for name in columns)
                self._database.execute(f"update {table} set {moved}")
        return seconds
