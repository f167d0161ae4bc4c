"""The page in a real browser: by keyboard, with and without its script, dark and narrow, and nothing leaves the machine."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fakes.listening import TOKEN, Listening
from fakes.nights import HOSTILE
from fakes.versions import Tiny
from shammah_data.exchange import Attempt, Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install -e '.[dev]'")
Serving = Callable[..., Listening]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NARROW, WIDE = 360, 1280


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium of this machine, or the one that playwright keeps."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    # Chromium's sandbox does not run for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=arguments)
        except sync_api.Error as error:
            pytest.skip(f"no browser here: install chromium ({str(error).splitlines()[0]})")
        yield browser
        browser.close()


@pytest.fixture
def server(home: Home, tiny: Tiny, serving: Serving) -> Listening:
    """A server whose log holds ten exchanges, two of them hostile."""
    tiny.publish(home)
    start = datetime.now(UTC) - timedelta(hours=1)
    tried = (Attempt("neural", "accepted", f"confidence 0.98 {HOSTILE}", 0.98, 0.73, 640.0),)
    texts = [(f"question {n}?", f"answer {n}") for n in range(8)] + [(HOSTILE, HOSTILE), ("w" * 900, "m" * 900)]
    ExchangeLog(home).add_many(
        [
            Exchange(query, answer, "neural", created_at=start + timedelta(minutes=n), latency_ms=640.0, attempts=tried)
            for n, (query, answer) in enumerate(texts)
        ]
    )
    return serving(offline=True)


@pytest.fixture
def visit(browser: Any, server: Listening) -> Iterator[Callable[..., Any]]:
    """Open the page in a browser of its own and sign in; what went wrong there, or left the machine, fails the test."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def heard(message: Any) -> None:
        # A browser reports the status of what was refused, as the way in is.
        if message.type in ("error", "warning") and not re.search("401|503", message.text):
            wrong.append(message.text)

    def asked(request: Any) -> None:
        if not request.url.startswith(server.url):
            wrong.append(request.url)

    def visit(width: int = WIDE, **options: Any) -> Any:
        context = browser.new_context(base_url=server.url, viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", heard)
        page.on("request", asked)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(server.url)
        page.locator("#token:focus").wait_for()
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector(".tiles")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def rated(home: Home, query: str) -> tuple[str | None, float, str | None]:
    (row,) = [row for row in ExchangeLog(home).recent(50) if row["query"] == query]
    return row["rating"], row["weight"], row["correction"]


def place(page: Any, query: str) -> Any:
    """Where an exchange is on the page."""
    return page.locator("article", has=page.get_by_role("heading", name=query, exact=True))


def test_a_wrong_token_is_told_and_the_right_one_opens_it(browser: Any, server: Listening) -> None:
    page = browser.new_page()
    page.goto(server.url)
    assert page.title() == "Sign in to Shammah"
    page.get_by_label("The server's token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("alert").inner_text() == "That is not the token."
    page.get_by_label("The server's token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("10 of 10 queries").wait_for()
    assert page.title() == "Shammah"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_selector("#token")
    page.go_back()
    page.wait_for_selector("#token")
    page.close()


def test_rating_loads_nothing_anew(visit: Callable[..., Any], home: Home) -> None:
    page = visit()
    page.evaluate("window.same = true")
    place(page, "question 3?").get_by_role("button", name="good", exact=True).press("Enter")
    pressed = place(page, "question 3?").get_by_role("button", name="good", pressed=True)
    pressed.wait_for()
    assert page.evaluate("window.same") is True
    assert page.get_by_role("status").text_content() == "Noted: right."
    assert page.evaluate("document.activeElement.value") == "good"
    assert rated(home, "question 3?") == ("good", 1.0, None)
    place(page, "question 3?").get_by_role("button", name="critical").click()
    place(page, "question 3?").get_by_role("button", name="critical", pressed=True).wait_for()
    assert rated(home, "question 3?") == ("good", 10.0, None)


def test_a_server_that_is_gone_is_told(visit: Callable[..., Any]) -> None:
    page = visit()
    page.route("**/rating", lambda route: route.fulfill(status=503, body="<p role=alert>the log cannot be written</p>"))
    place(page, "question 3?").get_by_role("button", name="bad").click()
    page.get_by_role("status").get_by_text("the log cannot be written").wait_for()
    assert place(page, "question 3?").get_by_role("button", pressed=True).count() == 0


def test_what_is_being_written_survives_a_rating(visit: Callable[..., Any], home: Home) -> None:
    page = visit()
    here = place(page, "question 3?")
    here.locator("summary", has_text="Fix").click()
    here.get_by_label("What it should have said").fill("At nine.")
    here.get_by_role("button", name="bad").click()
    here.get_by_role("button", name="bad", pressed=True).wait_for()
    assert here.get_by_label("What it should have said").input_value() == "At nine."
    here.get_by_role("button", name="Save").click()
    here.get_by_text("It should have been:").wait_for()
    assert not here.get_by_label("What it should have said").is_visible()
    assert rated(home, "question 3?") == ("bad", 1.0, "At nine.")


def test_of_two_ratings_in_a_row_the_last_is_shown(visit: Callable[..., Any], home: Home) -> None:
    page = visit()
    asked: list[Any] = []
    page.route("**/rating", lambda route: asked.append(route))
    for rating in ("good", "bad"):
        with page.expect_request("**/rating"):
            place(page, "question 3?").get_by_role("button", name=rating, exact=True).click()
    for n, rating in enumerate(("good", "bad")):
        asked[n].continue_()
        place(page, "question 3?").get_by_role("button", name=rating, pressed=True).wait_for()
    assert rated(home, "question 3?") == ("bad", 1.0, None)


def test_an_answer_of_somebody_else_is_told(visit: Callable[..., Any]) -> None:
    page = visit()
    page.route("**/rating", lambda route: route.fulfill(status=200, body="<p>Log in to the proxy</p>"))
    place(page, "question 3?").get_by_role("button", name="bad").click()
    page.get_by_role("status").get_by_text("That did not work").wait_for()


def test_fixing_by_keyboard(visit: Callable[..., Any], home: Home) -> None:
    page = visit()
    here = place(page, "question 5?")
    here.locator("summary", has_text="Fix").press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("At nine.\nNot at ten.")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    here.get_by_text("It should have been:").wait_for()
    assert rated(home, "question 5?") == ("bad", 10.0, "At nine.\nNot at ten.")
    assert here.locator(".corrected").inner_text() == "At nine.\nNot at ten."


def test_without_its_script_it_does_the_same(visit: Callable[..., Any], home: Home) -> None:
    page = visit(java_script_enabled=False)
    place(page, "question 4?").get_by_role("button", name="bad").click()
    assert page.get_by_role("alert").inner_text() == "Noted."
    assert page.get_by_role("heading", level=1).inner_text() == "question 4?"
    assert rated(home, "question 4?") == ("bad", 1.0, None)
    page.get_by_label("What it should have said").fill("At nine.")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("It should have been:", exact=True).wait_for()
    assert rated(home, "question 4?") == ("bad", 1.0, "At nine.")


def test_a_session_that_has_ended_leads_back_to_the_way_in(visit: Callable[..., Any], home: Home) -> None:
    page = visit()
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_selector("#token")
    place(page, "question 2?").get_by_role("button", name="good", exact=True).click()
    page.wait_for_selector("#token")
    assert rated(home, "question 2?") == (None, 1.0, None)


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_the_scheme_is_the_readers(visit: Callable[..., Any], width: int, scheme: str) -> None:
    page = visit(width, color_scheme=scheme)
    link = page.get_by_role("link", name="All that is known of it").first
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
    for path in (None, "/exchanges", link.get_attribute("href")):
        if path is not None:
            page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert (int(red) < 60) == (scheme == "dark")


def test_whatever_the_keyboard_reaches_shows_it(visit: Callable[..., Any]) -> None:
    page = visit()
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(200):
        page.keyboard.press("Tab")
        name, shown = page.evaluate(
            "(() => { const one = document.activeElement; const style = getComputedStyle(one);"
            " return [one.tagName, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2]; })()"
        )
        if name == "BODY":
            break
        reached.append((name, shown))
    assert {name for name, _ in reached} == {"A", "BUTTON", "SUMMARY", "DIV"}
    assert [name for name, shown in reached if not shown] == []
    assert len([name for name, _ in reached if name == "BUTTON"]) == 1 + 3 * 10


def test_whoever_wants_no_motion_gets_none(visit: Callable[..., Any]) -> None:
    page = visit(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert page.evaluate("document.getAnimations().length") == 0


def test_what_was_written_does_nothing(visit: Callable[..., Any]) -> None:
    page = visit()
    for path in ("/", "/exchanges", "/exchanges?find=script"):
        page.goto(path)
        assert page.locator("article img, article script").count() == 0
        assert page.locator("h3", has_text="<script>alert('x')</script>").count() == 1
