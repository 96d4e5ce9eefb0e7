"""Goals beside results."""
import datetime
import os
import platform
import statistics
from pathlib import Path


class Row:
    """`goal`: at most so much, or with `at_least` no less. `values`: one a start; their median counts. Without a goal: told beside."""

    def __init__(self, what, values, unit, goal=None, stretch=None, at_least=False, beside=""):
        self.what, self.values, self.unit, self.goal, self.stretch, self.at_least, self.beside = what, list(values), unit, goal, stretch, at_least, beside

    @property
    def median(self):
        return statistics.median(self.values)

    def goal_text(self):
        if self.goal is None:
            return ""
        return ("≥ " if self.at_least else "≤ ") + show(self.goal) + (f" ({show(self.stretch)})" if self.stretch else "")

    def result(self):
        low, high = min(self.values), max(self.values)
        spread = f" [{show(low)}–{show(high)}]" if show(low) != show(high) else ""
        return show(self.median) + spread

    def verdict(self):
        if self.goal is None:
            return ""
        keeps = lambda limit: self.median >= limit if self.at_least else self.median <= limit
        if not keeps(self.goal):
            return f"missed by {show(abs(self.median - self.goal))}"
        return "met, and the stretch" if self.stretch and keeps(self.stretch) else "met"


def show(number):
    if float(number).is_integer():
        return f"{int(number):,}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def machine():
    model = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{(model or [platform.processor() or platform.machine()])[0]}, {os.cpu_count()} cores, Linux {platform.release()}"


def show_all(rows, notes):
    print(f"\n{datetime.date.today()}, {machine()}, load {os.getloadavg()[0]:.1f}")
    for note in notes:
        print(note)
    print("\n| what | goal (stretch) | result: median [min–max] | | beside |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row.what} | {row.goal_text()} {row.unit if row.goal is not None else ''} | {row.result()} {row.unit} | {row.verdict()} | {row.beside} |")
