"""`batchacct doctor`: everything an administrator would look at, each with what to do. Rooms and plug-ins add checks."""

from batchacct.doctor.contract import CHECKS, Check, Examined, Finding, Level, NotKnownError, error, not_applicable, ok, warning
from batchacct.doctor.running import Told, examine, registered

__all__ = [
    "CHECKS",
    "Check",
    "Examined",
    "Finding",
    "Level",
    "NotKnownError",
    "Told",
    "error",
    "examine",
    "not_applicable",
    "ok",
    "registered",
    "warning",
]
