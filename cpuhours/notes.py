"""What a reader of a report must know: how it was counted, and everything that is not in the figures or may still change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from batchacct.clock import shown
from batchacct.config_reports import Capacity, Energy
from batchacct.ledger.whose import NOT_JOINED
from cpuhours.figures import Figures
from cpuhours.measures import MEASURES
from cpuhours.query import Gaps, day_text
from cpuhours.question import Question
from cpuhours.spans import period_text
from cpuhours.validity import stretches

Period = tuple[int, int]


def notes_of(
    figures: Figures,
    question: Question,
    period: Period,
    *,
    gaps: Gaps,
    total: pd.DataFrame,
    capacity: Sequence[Capacity] = (),
    energy: Sequence[Energy] = (),
) -> list[str]:
    """Whole sentences; `total` has one row, the sum of all figures."""
    sums = {str(name): value for name, value in total.to_dict("records")[0].items()}
    span = figures.logged_span()
    notes = [f"{how_counted(question)} {_unit(question)} Newest job record: {shown(span[1]) if span else 'none'}."]
    if question.compare:
        begin, end = period
        notes.append(f"Compared with {period_text(2 * begin - end, begin, question.zone)}, as long a time just before.")
    notes += figures.notes((question.begin, question.end))
    notes += _of_gaps(gaps)
    notes += _unknown(question, sums)
    if "utilisation" in question.measures:
        notes += _of_capacity(capacity, period)
    if "co2e" in question.measures:
        notes += _of_co2e(energy, period, sums)
    notes += _not_decided(figures, question, period)
    return notes


def how_counted(question: Question) -> str:
    """`UTC days, jobs counted on the day they ended.`, for the words under a picture too."""
    zone = question.zone
    bins = f"Bins of {'an' if question.size == 'hour' else 'a'} {question.size} in {zone}"
    if question.is_spread:
        times = f"{bins}; times" if question.size else "Times"
        return f"{times} are spread evenly over when jobs ran; jobs are counted where they ended."
    counted = "started" if question.measures == ("started",) else "ended"
    if question.size in (None, "day"):
        return f"{zone} days, jobs counted on the day they {counted}."
    return f"{bins}; a job counts as a whole in the one it {counted} in."


def _unit(question: Question) -> str:
    if question.normalise is None:
        return "CPU time as the batch system measured it, not normalised."
    return f"{question.normalise} hours are hours times the {question.normalise} benchmark of one core."


def count_of(number: int, what: str) -> str:
    """`1 job`, `2,000 jobs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _of_gaps(gaps: Gaps) -> Iterator[str]:
    if gaps.days:
        days = count_of(len(gaps.days), "day")
        yield f"{days} without any job record: nothing is known of them, which is not the same as zero."
    for name, missing in gaps.by_cluster.items():
        yield f"No record of cluster {name} on {_days_text(missing)}, though others have some."


def _days_text(days: Sequence[int]) -> str:
    named = ", ".join(day_text(day) for day in days[:4])
    return named if len(days) <= 4 else f"{named} and {len(days) - 4} more days"


def _unknown(question: Question, sums: Mapping[str, object]) -> Iterator[str]:
    """What of the jobs is unknown and concerns the measures."""

    def count(name: str) -> int:
        return int(str(sums.get(name, 0)))

    asked, benchmark = {*question.measures}, question.normalise
    if (unknown := count("cpu_unknown_jobs")) and asked & {"cpu", "efficiency"}:
        yield f"{count_of(unknown, 'job')} of unknown CPU time: in the jobs and wall hours, not in the CPU hours."
    if (unknown := count("core_unknown_jobs")) and asked & {"core", "efficiency", "utilisation"}:
        yield f"{count_of(unknown, 'job')} of unknown processors or wall time: not in the core hours."
    if benchmark is not None and (without := count("not_normalised_jobs")):
        yield f"{count_of(without, 'job')} without {benchmark} benchmark: not in the {benchmark} hours."
    for names, column, what in (
        ({"wait", "mean-wait"}, "wait_unknown_jobs", "unknown time of submission: not in the hours waited"),
        ({"gpu"}, "gpu_unknown_jobs", "which the batch system did not say how many GPUs they had: not in the GPU hours"),
        ({"energy", "co2e"}, "energy_unknown_jobs", "unknown energy: not in the kWh, and nothing was guessed for them"),
    ):
        if asked & names and (unknown := count(column)):
            yield f"{count_of(unknown, 'job')} of {what}."
    if "started" in asked:
        yield "Jobs that started are those of them that have ended by now: of a running job there is no record yet."
    if "wait" in asked or "mean-wait" in asked:
        yield "Waiting is from submission to start, of jobs that ended in this time."


def _of_capacity(capacity: Sequence[Capacity], period: Period) -> Iterator[str]:
    """Which capacity it was."""
    told = []
    for name in dict.fromkeys(one.cluster for one in capacity):
        parts = stretches([one for one in capacity if one.cluster == name], *period)
        cores = [f"{part.in_force.cores:,}" if part.in_force else "unknown (no [[capacity]] is valid then)" for part in parts]
        since = [f" from {day_text(part.begin)} on" if number else "" for number, part in enumerate(parts)]
        told.append(f"{name} {', '.join(f'{value}{when}' for value, when in zip(cores, since, strict=True))}")
    yield (
        f"Capacity in cores: {'; '.join(told)}. Held against it are core hours, spread evenly over when jobs ran; more than 100 % "
        "means that jobs had more processors than the configuration says there are. Clusters without [[capacity]] are left out."
    )


def _of_co2e(energy: Sequence[Energy], period: Period, sums: Mapping[str, object]) -> Iterator[str]:
    """The inputs of the estimate, and what it leaves out."""
    inputs = [
        f"{part.in_force.g_co2e_per_kwh:g} g/kWh from {day_text(part.begin)} ({part.in_force.source})"
        for part in stretches(energy, *period)
        if part.in_force
    ]
    yield (
        f"{MEASURES['co2e'].title}: energy that the batch system measured, times {'; '.join(inputs) or 'nothing known'}."
        " No cooling, network, storage, idle power or manufacture."
    )
    left = float(str(sums.get("energy_j", 0))) - float(str(sums.get("co2e_energy_j", 0)))
    if left > 0:
        yield f"{left / 3.6e6:,.1f} kWh are of days for which no [[energy]] is valid: not in the CO2e."


def _not_decided(figures: Figures, question: Question, period: Period) -> Iterator[str]:
    begin, end = period
    outcomes = figures.usage_by(by=("outcome",), begin=begin, end=end, where=question.where)
    jobs = dict(zip(outcomes["outcome"], outcomes["jobs"], strict=True))
    if waiting := int(jobs.get("waiting", 0)):
        yield f"{count_of(waiting, 'job')} still waiting for a grid identity: counted apart until then."
    if unjoined := int(jobs.get(NOT_JOINED, 0)):
        yield f"{count_of(unjoined, 'job')} not joined yet: no VO until the next `batchacct publish`."
