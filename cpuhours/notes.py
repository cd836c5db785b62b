"""What a reader of a report must know: how it was counted, and everything that is not in the figures or may still change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from batchacct.clock import day_text, shown
from batchacct.config_reports import Capacity, Energy
from batchacct.ledger.whose import NOT_JOINED
from cpuhours.figures import Figures
from cpuhours.gathering import NOT_SUMS
from cpuhours.measures import MEASURES, NORMALISED
from cpuhours.query import Gaps
from cpuhours.question import Question
from cpuhours.spans import bins_between, period_text
from cpuhours.validity import stretches

Period = tuple[int, int]


def notes_of(
    figures: Figures,
    question: Question,
    period: Period,
    *,
    gaps: Gaps,
    gaps_before: Gaps | None = None,
    total: pd.DataFrame,
    capacity: Sequence[Capacity] = (),
    energy: Sequence[Energy] = (),
) -> list[str]:
    """Whole sentences; `total` has one row, the sum of all figures."""
    sums = {str(name): value for name, value in total.to_dict("records")[0].items()}
    span = figures.logged_span()
    newest = f"Newest job record: {shown(span[1]) if span else 'none'}."
    notes = [" ".join([how_counted(question), *_unit(question), newest])]
    if question.compare:
        begin, end = period
        notes.append(f"Compared with {period_text(2 * begin - end, begin, question.zone)}, as long a time just before.")
    notes += [*(in_part(question.size, question.zone, period) if question.size else ()), *_nothing_fits(question, sums)]
    since = question.begin
    notes += figures.notes((2 * since - period[1] if question.compare and since is not None else since, question.end))
    notes += _of_gaps(gaps)
    if gaps_before is not None and gaps_before.days:
        days = count_of(len(gaps_before.days), "day")
        notes.append(f"The time it is compared with has {days} without any job record: nothing is known of them.")
    notes += _unknown(question, sums)
    if "utilisation" in question.measures:
        notes += _of_capacity(capacity, period, gaps)
    if "co2e" in question.measures:
        notes += _of_co2e(energy, period, sums)
    notes += _not_decided(figures, question, period)
    return notes


def how_counted(question: Question) -> str:
    """`UTC days, jobs counted on the day they ended.`: where, of each measure, for the number of jobs is told with all of them."""
    zone = question.zone
    bins = f"Bins of {'an' if question.size == 'hour' else 'a'} {question.size} in {zone}"
    if question.is_spread:
        times = f"{bins}; times" if question.size else "Times"
        told = [f"{times} are spread evenly over when jobs ran; jobs are counted where they ended", "where they started"]
    elif question.size in (None, "day"):
        told = [f"{zone} days, jobs counted on the day they ended", "on the day they started"]
    else:
        told = [f"{bins}; a job counts as a whole in the one it ended in", "in the one they started in"]
    started = f"; jobs that started, {told[1]}" if "started" in question.measures else ""
    held = "; what is held of the capacity is spread evenly over when jobs ran"
    return f"{told[0]}{started}{held if 'utilisation' in question.measures and not question.is_spread else ''}."


def _unit(question: Question) -> Iterator[str]:
    """What CPU time is, and what is normalised, if there is any."""
    if benchmarked := _benchmarked(question):
        yield f"{question.normalise} hours are hours times the {question.normalise} benchmark of one core."
    if "cpu" in question.measures and "cpu" not in benchmarked:
        yield "CPU time as the batch system measured it, not normalised."
    if question.normalise and "wall" in question.measures and "wall" not in benchmarked:
        yield "Wall hours spread over time are not normalised."


def _benchmarked(question: Question) -> set[str]:
    """The measures that are multiplied by a benchmark."""
    return {one.name for one in question.measured if one.name in NORMALISED and one.column == NORMALISED[one.name][0]}


def in_part(size: str, zone: str, period: Period) -> Iterator[str]:
    """Of bins at either end that are longer than what is asked for."""
    bins = bins_between(size, zone, *period)
    cut = [name for name, is_cut in (("first", bins[0][0] < period[0]), ("last", period[1] < bins[-1][1])) if is_cut]
    if cut and len(bins) == 1:
        yield f"The {size} is only in part in the period."
    elif cut:
        yield f"The {' and the '.join(cut)} {size} {'is' if len(cut) == 1 else 'are'} only in part in the period."


def _nothing_fits(question: Question, sums: Mapping[str, object]) -> Iterator[str]:
    """A name that nothing has may be a slip of the pen."""
    if question.where and not any(float(str(value)) for name, value in sums.items() if name not in NOT_SUMS):
        asked = [f"--{name.replace('_', '-')} {_listed(names)}" for name, names in question.where.items()]
        yield f"No job in this period matches {' '.join(asked)}."


def _listed(names: Sequence[str]) -> str:
    """As the command takes them."""
    return ",".join(name.replace(",", "\\,") for name in names)


def count_of(number: int, what: str) -> str:
    """`1 job`, `2,000 jobs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _of_gaps(gaps: Gaps) -> Iterator[str]:
    if gaps.days:
        days = count_of(len(gaps.days), "day")
        yield f"{days} without any job record: nothing is known of them, which is not the same as zero."
    for name, missing in gaps.by_cluster.items():
        yield f"No record of cluster {name} on {days_text(missing)}, though others have some."


def days_text(days: Sequence[int]) -> str:
    """`2026-11-01, 2026-11-02 and 3 more days`."""
    named = ", ".join(day_text(day) for day in days[:4])
    return named if len(days) <= 4 else f"{named} and {len(days) - 4} more days"


def _unknown(question: Question, sums: Mapping[str, object]) -> Iterator[str]:
    """What of the jobs is unknown and concerns the measures."""

    def count(name: str) -> int:
        return int(str(sums.get(name, 0)))

    asked, benchmark = {*question.measures}, question.normalise
    if (unknown := count("cpu_unknown_jobs")) and asked & {"cpu", "efficiency"}:
        yield f"{count_of(unknown, 'job')} of unknown CPU time: in the jobs, not in the CPU hours."
    if (unknown := count("wall_unknown_jobs")) and "wall" in asked:
        yield f"{count_of(unknown, 'job')} of unknown wall time: not in the wall hours."
    if (unknown := count("core_unknown_jobs")) and asked & {"core", "efficiency", "utilisation"}:
        yield f"{count_of(unknown, 'job')} of unknown processors or wall time: not in the core hours."
    for name, column, hours in (("cpu", "not_normalised_jobs", "hours"), ("wall", "wall_not_normalised_jobs", "wall hours")):
        if name in _benchmarked(question) and (without := count(column)):
            yield f"{count_of(without, 'job')} without {benchmark} benchmark: not in the {benchmark} {hours}."
    for names, column, what in (
        ({"wait", "mean-wait"}, "wait_unknown_jobs", "unknown time of submission: not in the hours waited"),
        ({"gpu"}, "gpu_unknown_jobs", "unknown GPUs or wall time: not in the GPU hours"),
        ({"energy", "co2e"}, "energy_unknown_jobs", "unknown energy: not in the kWh, and nothing was guessed for them"),
    ):
        if asked & names and (unknown := count(column)):
            yield f"{count_of(unknown, 'job')} of {what}."
    if "started" in asked:
        yield "Jobs that started are those of them that have ended by now: of a running job there is no record yet."
    if "wait" in asked or "mean-wait" in asked:
        yield "Waiting is from submission to start, of jobs that ended in this time."


def _of_capacity(capacity: Sequence[Capacity], period: Period, gaps: Gaps) -> Iterator[str]:
    """Which capacity it was, of which days."""
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
    if gaps.days:
        days = f"{count_of(len(gaps.days), 'day')} without any job record {'is' if len(gaps.days) == 1 else 'are'}"
        yield f"{days} left out of the capacity, and of what is held of it."


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
