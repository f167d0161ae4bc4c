import math
from xml.etree import ElementTree

import pytest

from shammah_data.plots import Axis, Chart, Columns, Series, bar, column_chart, key, line_chart, open_key, thinned, ticks

SVG = '<svg xmlns="http://www.w3.org/2000/svg"'


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(svg).replace("<svg", SVG, 1))


def classes(svg: str) -> list[str]:
    return [element.get("class", "") for element in drawn(svg).iter()]


def chart(*series: Series, x: Axis | None = None, y: Axis | None = None) -> str:
    return line_chart(Chart("c", 'A <b> & "c"', "It grows.", x or Axis("x"), y or Axis("y & <z>"), series))


def test_text_is_escaped_and_read_out() -> None:
    svg = chart(Series("one", ((0, 1), (1, 2)), titles=("</title><script>",) * 2))
    root = drawn(svg)
    assert "<script>" not in svg
    texts = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    assert texts == {"c-t": 'A <b> & "c"', "c-d": "It grows."}
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "c-t c-d"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 512, [0, 200, 400, 600]), (0.87, 3.1, [0.5, 1, 1.5, 2, 2.5, 3, 3.5])],
)
def test_ticks_are_round_and_cover(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_ticks_of_counts_are_whole() -> None:
    assert ticks(0, 2, 5, whole=True) == [0, 1, 2]


@pytest.mark.parametrize("points", [(), ((3.0, 2.0),), ((3.0, 2.0), (3.0, 2.0)), ((0.0, 0.0), (1e9, 1e-9))])
def test_whatever_the_points_everything_is_inside(points: tuple[tuple[float, float], ...]) -> None:
    svg = chart(Series("one", points), x=Axis("n", write="whole"))
    assert "nan" not in svg
    for element in drawn(svg).iter():
        for name, most in (("x", 460), ("y", 280)):
            assert 0 <= float(element.get(name, "0")) <= most


def test_many_points_lose_their_markers_and_get_a_band() -> None:
    points = tuple((float(n), n % 7 / 7) for n in range(100))
    few = Series("few", points[:5], intervals=((0.0, 1.0),) * 5, hollow=frozenset({2}))
    drawn_few = [name for name in classes(chart(few)) if name.startswith(("dot", "band"))]
    assert drawn_few == [*["dot s0"] * 2, "dot s0 hollow", *["dot s0"] * 2]
    many = classes(chart(Series("many", points, intervals=((0.0, 1.0),) * 100)))
    assert "band s0" in many
    assert not [name for name in many if name.startswith("dot")]


def test_thinning_keeps_the_shape_and_the_end() -> None:
    points = [(float(n), math.sin(n / 500)) for n in range(5000)]
    kept = thinned(points)
    assert len(kept) < 300
    assert kept[-1] == points[-1]
    assert all(abs(y - math.sin(x / 500)) < 0.01 for x, y in kept)
    assert thinned(points[:10]) == tuple(points[:10])


def test_a_bar_never_runs_over() -> None:
    rects = list(drawn(bar([(0.5, "good"), (0.4, "held"), (0.4, "bad"), (0.0, "none")])).iter())[2:]
    assert [(one.get("class"), one.get("x"), one.get("width")) for one in rects] == [
        ("good", "0", "50"),
        ("held", "50", "40"),
        ("bad", "90", "10"),
    ]


def test_keys_look_like_their_series() -> None:
    assert "line s1" in classes(key(Series("a", (), 1)))
    assert "line s1" not in classes(key(Series("a", (), 1, line=False)))
    assert classes(open_key([0, 2])).count("dot s2 hollow") == 1


def test_columns_are_shares_of_their_own_whole() -> None:
    parts = (("a", "one"), ("b & c", "two"))
    days = tuple((f"{n} Nov", counts) for n, counts in enumerate(((3, 1), (0, 0), (0, 7))))
    svg = column_chart(Columns("c", "Days", "Fewer.", ("day", "share"), parts, days))
    groups = [one for one in drawn(svg).iter() if one.get("class") == "column"]
    assert [one[0].text for one in groups] == ["0 Nov: a 3, b & c 1", "2 Nov: b & c 7"]
    bars = [(part.get("class"), float(part.get("height", ""))) for one in groups for part in one[1:]]
    assert [name for name, _ in bars] == ["one", "two", "two"]
    assert [height for _, height in bars] == pytest.approx([166.5, 55.5, 222.0], abs=0.1)
    texts = [one.text for one in drawn(svg).iter() if one.get("class") == "tick mid"]
    assert texts == ["0 Nov", "1 Nov", "2 Nov"]


def test_of_many_columns_the_newest_has_its_name() -> None:
    days = tuple((f"day {n}", (1,)) for n in range(30))
    svg = column_chart(Columns("c", "Days", "Fewer.", ("day", "share"), (("a", "one"),), days))
    texts = [one.text for one in drawn(svg).iter() if one.get("class") == "tick mid"]
    assert texts == [f"day {n}" for n in (4, 9, 14, 19, 24, 29)]
