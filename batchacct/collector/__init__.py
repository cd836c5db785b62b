"""Collecting: what is new in the files of a source, or in the answers of its feed, goes through its parser into the store."""

from batchacct.collector.collecting import Collected, Collector, beginning
from batchacct.collector.follower import Follower
from batchacct.collector.once import collect_once

__all__ = ["Collected", "Collector", "Follower", "beginning", "collect_once"]
