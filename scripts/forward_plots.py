"""The curves of scripts/bench forward as one HTML page without script or network. Knows answers and charts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from forward_figures import equal_bins, risk_coverage
from markupsafe import Markup, escape
from night_figures import Asked

import shammah_data
from shammah_data.plots import Axis, Chart, Series, key, line_chart, thinned


def page(asked: Mapping[str, Sequence[Asked]]) -> str:
    """Risk and coverage of every contestant that ranks its answers, and how far the cascade's confidence can be believed."""
    css = (Path(shammah_data.__file__).parent / "pages.css").read_text(encoding="utf-8")
    ranked = {name: said for name, said in asked.items() if len({one.confidence for one in said}) > 2}
    curves = [Series(name, thinned(risk_coverage(said)[0]), n, marked=False) for n, (name, said) in enumerate(ranked.items())]
    parts = []
    # Four styles can be told apart.
    for place in range(0, len(curves), 4):
        some = tuple(curves[place : place + 4])
        chart = Chart(
            f"risk-{place}",
            "Share wrong of the answers given, by the share of questions answered",
            "; ".join(f"{one.name}: {one.points[-1][1]:.0%} wrong when all is answered" for one in some),
            Axis("questions answered locally", 0.0, 1.0, "percent"),
            Axis("of these, wrong", 0.0, 1.0, "percent"),
            some,
        )
        legend = Markup("").join(Markup("<span>{} {}</span> ").format(key(one), one.name) for one in some)
        parts.append(
            Markup("<figure><figcaption>{}</figcaption>{}<p>{}</p></figure>").format(chart.title, line_chart(chart), legend)
        )
    parts.append(_believed(asked["cascade"]))
    body = Markup("").join(parts)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>bench forward</title>'
        f"<style>{css}</style><main><h1>{escape('What is answered locally, and how rightly')}</h1>{body}</main></html>\n"
    )


def _believed(said: Sequence[Asked]) -> Markup:
    points = [
        (sum(sure for sure, _ in part) / len(part), sum(right for _, right in part) / len(part))
        for part in equal_bins([(one.confidence, one.right) for one in said])
    ]
    chart = Chart(
        "believed",
        "Share right by confidence, the cascade",
        f"{len(said)} questions in {len(points)} bins of equal size",
        Axis("confidence", 0.0, 1.0, "percent"),
        Axis("right", 0.0, 1.0, "percent"),
        (Series("cascade", tuple(points), 0),),
        rule=((0.0, 0.0), (1.0, 1.0), "as sure as right"),
    )
    return Markup("<figure><figcaption>{}</figcaption>{}</figure>").format(chart.title, line_chart(chart))
