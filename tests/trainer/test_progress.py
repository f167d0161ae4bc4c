import io

from shammah_trainer.loop import Progress
from shammah_trainer.progress import Reporter


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def step(n: int, of: int = 30) -> Progress:
    return Progress(n, of, 8 * n, 2.5, 1234.0, float(of - n))


def test_a_log_gets_a_line_now_and_then() -> None:
    stream, now = io.StringIO(), iter(range(100))
    reporter = Reporter(stream, clock=lambda: float(next(now)))
    for n in range(1, 31):
        reporter.training(step(n))
    assert stream.getvalue().splitlines() == [
        f"train: step {n}/30, {8 * n} examples, loss 2.500, 1234 tokens/s, {30 - n} s left" for n in (1, 11, 21, 30)
    ]


def test_each_counter_begins_and_ends_with_a_line() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream, clock=lambda: 0.0)
    for name in ("score", "answer"):
        report = reporter.counter(name)
        for done in range(1, 6):
            report(done, 5)
    reporter.say("done")
    assert stream.getvalue().splitlines() == ["score: 1/5", "score: 5/5", "answer: 1/5", "answer: 5/5", "done"]


def test_a_terminal_gets_a_bar_that_a_line_does_not_break() -> None:
    stream = Terminal()
    reporter = Reporter(stream)
    for n in range(1, 31):
        reporter.training(step(n))
    reporter.say("trained")
    report = reporter.counter("answer")
    report(2, 2)
    reporter.end()
    text = stream.getvalue()
    assert "\r" in text
    assert "train: 100%" in text
    assert "240 examples, loss 2.500, 1234 tokens/s" in text
    assert "\ntrained\n" in text
    assert text.rstrip().splitlines()[-1].split("\r")[-1].startswith("answer: 100%")
