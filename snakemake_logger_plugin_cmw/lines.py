"""What Snakemake tells, in a line a job, and what failed at the end."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TOLD = (
    "Nothing to be done",
    "This was a dry-run",
    "Terminating processes",
    "Trying to restart",
    "Congratulations",  # of --lint
    "Deleting",  # of --delete-all-output, as the next
    "Would delete",
)
"""Beginnings of what has no event of its own and is passed on."""
_LAST_LINES = 12


class Lines:
    """Turns the events of a run into lines; remembers the jobs, and which of them have failed."""

    def __init__(self, dry: bool) -> None:
        self._dry = dry
        self._jobs: dict[int, tuple[str, list[str]]] = {}
        self._before: dict[int, int | None] = {}
        self._failed: dict[int, str] = {}
        self._done = 0
        self._total = 0

    def of(self, event: str | None, message: str, level: str, record: Mapping[str, Any]) -> str | None:
        """The line of an event of Snakemake's; None where there is none to say.

        Args:
            event: its kind, as Snakemake calls it in lower case; None for a mere message.
            message: its text.
            level: of the message: INFO, WARNING, ERROR.
            record: what else it has.
        """
        known = {
            "run_info": self._counted,
            "job_info": self._started,
            "job_finished": self._finished,
            "job_error": self._fell,
        }
        if event in known:
            return known[event](record)
        if event not in (None, "error", "group_error") or (
            level == "INFO" and not message.strip().startswith(_TOLD)
        ):
            return None
        return message.strip() or None

    def end(self) -> str | None:
        """The jobs that failed and did not end well later, each with the last lines of its log."""
        return "\n".join(self._failed.values()) or None

    def _counted(self, record: Mapping[str, Any]) -> str | None:
        stats = {name: count for name, count in record["stats"].items() if name != "total"}
        if self._total:
            return None  # a dry run counts a second time, at its end
        self._total = sum(stats.values())
        each = ", ".join(f"{count} {name}" for name, count in stats.items())
        rest = "a line for each at its end; `cmw status` shows the runs at work"
        more = "-p lists each" if self._dry else rest
        return f"{self._total} jobs: {each} ({more})"

    def _started(self, record: Mapping[str, Any]) -> None:
        words = dict(record["wildcards"] or {})
        name = words.get("name") or words.get("table") or ""
        logs = list(record["log"] or [])
        self._jobs[record["jobid"]] = (f"{record['rule_name']} {name}".strip(), logs)
        self._before[record["jobid"]] = _written(logs)

    def _finished(self, record: Mapping[str, Any]) -> str:
        number = record["job_id"]
        self._done += 1
        self._failed.pop(number, None)
        called, logs = self._jobs.get(number, (f"job {number}", []))
        said = next((text for line in _last(logs, 3) if (text := line.partition("finished: ")[2])), "")
        return f"{time.strftime('%H:%M:%S')}  {self._done}/{self._total}  {called}  {said}".rstrip()

    def _fell(self, record: Mapping[str, Any]) -> str:
        number = record["jobid"]
        called, logs = self._jobs.get(number, (record["rule_name"], list(record["log"] or [])))
        head = f"Error in rule {record['rule_name']}: {called}"
        last = [f"    {line}" for line in _last(logs, _LAST_LINES)]
        if (
            number in self._before and _written(logs) == self._before[number]
        ):  # what is there is another attempt's
            reason = record.get("rule_msg") or "why is said above"
            last = [f"    it wrote nothing, so it did not start: {reason}"]
        self._failed[number] = "\n".join([head, *(f"  {log}" for log in logs), *last])
        return f"{time.strftime('%H:%M:%S')}  failed  {called}"


def _written(logs: list[str]) -> int | None:
    """When the first of the log files was last written, in ns; None where there is none."""
    try:
        return Path(logs[0]).stat().st_mtime_ns
    except (OSError, IndexError):
        return None


def _last(logs: list[str], count: int) -> list[str]:
    """The last lines of the first of the log files that can be read."""
    for log in logs:
        try:
            return Path(log).read_text(errors="replace").splitlines()[-count:]
        except OSError:
            continue
    return []
