"""The page over HTTP: who sees it, what is on it, rating and fixing without a script, and that what was written stays text."""

import itertools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from fakes.browsing import Visitor
from fakes.claude import FakeClaude
from fakes.html import Page, contrast
from fakes.listening import AUTHORIZED, TOKEN, Listening
from fakes.nights import HOSTILE
from fakes.processes import Holder
from fakes.versions import QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.exchange import Attempt, Exchange, RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.verdicts import Verdict, note
from shammah_runtime.http.browsers import SECONDS, Browsers
from shammah_trainer.curate import curate
from shammah_trainer.likeness import LEXICAL

Serving = Callable[..., Listening]
STYLE = (
    Path(__file__).parents[2] / "data/shammah_data/pages.css",
    Path(__file__).parents[2] / "runtime/shammah_runtime/http/templates/page.css",
)
SHUT = ("/", "/exchanges", "/exchanges/11111111-1111-4111-8111-111111111111", "/exchanges/x")
SENT = ("/sign-out", "/exchanges/11111111-1111-4111-8111-111111111111/rating")
UNKNOWN = "99999999-9999-4999-8999-999999999999"


@pytest.fixture
def server(home: Home, serving: Serving) -> Listening:
    return serving(offline=True)


@pytest.fixture
def visitor(server: Listening) -> Visitor:
    """Signed in, with the page loaded."""
    visitor = Visitor(server)
    assert visitor.sign_in().status == 303
    assert visitor.get("/").status == 200
    return visitor


def asked(home: Home, count: int = 1, **given: object) -> list[Exchange]:
    """Exchanges of the log, oldest first, a minute apart."""
    start = datetime.now(UTC) - timedelta(minutes=count)
    made = [
        Exchange(
            **{"query": f"question {n}?", "answer": f"answer {n}", "tier": "neural"} | given,  # type: ignore[arg-type]
            created_at=start + timedelta(minutes=n),
            attempts=(Attempt("neural", "accepted", "confidence 0.98", 0.98, 0.73, 640.0),),
        )
        for n in range(count)
    ]
    ExchangeLog(home).add_many(made)
    return made


# -- who sees it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHUT)
@pytest.mark.parametrize("cookie", ["", "shammah-{port}=", "shammah-{port}=guess", "shammah-{port}=" + TOKEN])
def test_without_a_session_there_is_a_form_and_nothing_else(server: Listening, home: Home, path: str, cookie: str) -> None:
    asked(home)
    answer = server.ask("GET", path, headers={"cookie": cookie.format(port=server.port)} if cookie else {})
    page = Page(answer.body.decode())
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert [one["action"] for one in page.named("form")] == ["/sign-in"]
    assert "question" not in page.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", SENT)
def test_without_a_session_no_form_is_taken(server: Listening, home: Home, path: str) -> None:
    asked(home)
    assert Visitor(server).post(path, {"rating": "good"}).status == 401
    assert ExchangeLog(home).recent()[0]["rating"] is None


def test_the_token_opens_it_and_is_not_in_the_cookie(server: Listening) -> None:
    visitor = Visitor(server)
    answer = visitor.sign_in()
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(rf"shammah-{server.port}=\S{{43}}; HttpOnly; Max-Age={SECONDS}; Path=/; SameSite=strict", cookie)
    assert TOKEN not in cookie
    assert TOKEN not in visitor.get("/").body.decode()


def test_behind_tls_the_cookie_stays_behind_it(server: Listening) -> None:
    visitor = Visitor(server)
    secure = {"host": "localhost", "origin": "https://localhost"}
    assert "; Secure" in visitor.post("/sign-in", {"token": TOKEN}, secure).headers["set-cookie"]


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN.upper()])
def test_another_token_does_not(server: Listening, token: str) -> None:
    answer = Visitor(server).sign_in(token)
    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert "That is not the token." in Page(answer.body.decode()).text
    figures = server.ask("GET", "/metrics").body.decode()
    assert 'shammah_http_refused_total{reason="token"} 1.0' in figures


def test_signing_out_ends_the_session(visitor: Visitor) -> None:
    kept = visitor.cookie
    assert visitor.post("/sign-out", {}).status == 303
    visitor.cookie = kept
    assert visitor.get("/").status == 401


def test_a_session_is_none_for_the_apis(visitor: Visitor) -> None:
    assert visitor.get("/metrics").status == 401
    assert visitor.get("/v1/models").status == 401
    json = {"content-type": "application/json"}
    assert visitor.post("/v1/feedback", {}, json).status == 401


def test_the_token_in_a_header_is_no_session(server: Listening) -> None:
    assert server.ask("GET", "/", headers=AUTHORIZED).status == 401


def test_sessions_end_in_time_and_the_oldest_gives_way() -> None:
    now = [0.0]
    browsers = Browsers(lambda: now[0])
    first = browsers.enter()
    assert browsers.word(first)
    now[0] = SECONDS + 1.0
    assert browsers.word(first) is None
    names = [browsers.enter() for _ in range(101)]
    assert browsers.word(names[0]) is None
    assert len({browsers.word(name) for name in names[1:]}) == 100


# -- what other sites can do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SENT)
@pytest.mark.parametrize("word", ["", "guess"])
def test_a_form_without_its_word_is_refused(visitor: Visitor, home: Home, path: str, word: str) -> None:
    asked(home, id="11111111-1111-4111-8111-111111111111")
    assert visitor.post(path, {"rating": "bad", "form": word}).status == 403
    assert ExchangeLog(home).recent()[0]["rating"] is None
    assert visitor.get("/").status == 200


def test_the_word_of_another_session_is_refused(visitor: Visitor, server: Listening) -> None:
    other = Visitor(server)
    other.sign_in()
    other.get("/")
    assert visitor.post("/sign-out", {"form": other.word}).status == 403


@pytest.mark.parametrize("path", [*SENT, "/sign-in"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_form_of_another_site_is_refused(visitor: Visitor, path: str, origin: str) -> None:
    assert visitor.post(path, {"token": TOKEN, "rating": "bad"}, {"origin": origin}).status == 403
    assert visitor.get("/").status == 200


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
def test_only_forms_are_forms(visitor: Visitor, kind: str) -> None:
    assert visitor.post("/sign-out", {}, {"content-type": kind}).status == 415


@pytest.mark.parametrize("path", [*SHUT, "/page.css"])
def test_a_name_that_was_bound_to_this_machine_is_refused(visitor: Visitor, path: str) -> None:
    assert visitor.get(path, host="evil.example").status == 421


@pytest.mark.parametrize("path", ["/", "/exchanges", "/exchanges/x", "/page.css", "/page.js", "/page.svg"])
def test_nothing_may_be_framed_loaded_or_run_from_elsewhere(visitor: Visitor, path: str) -> None:
    headers = visitor.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not any(name.startswith("access-control") for name in headers)
    assert headers["cache-control"] == ("no-store" if "page" not in path else "public, max-age=31536000, immutable")


def test_what_a_page_asks_for_is_there(visitor: Visitor) -> None:
    page = visitor.page()
    wanted = {one.get("href") or one["src"] for tag in ("link", "script", "img") for one in page.named(tag)}
    kinds = {}
    for path in wanted:
        answer = visitor.get(path)
        assert answer.status == 200
        kinds[path.partition("?")[0]] = answer.headers["content-type"].partition(";")[0]
    assert kinds == {"/page.css": "text/css", "/page.js": "text/javascript", "/page.svg": "image/svg+xml"}


def test_without_a_page_nothing_is_there(home: Home, serving: Serving) -> None:
    server = serving(offline=True, http={"page": False})
    for path in (*SHUT, "/page.css"):
        assert server.ask("GET", path, headers={}).status == 401
        assert server.ask("GET", path).status == 404
    assert Visitor(server).sign_in().status == 401


# -- what is on it ----------------------------------------------------------------------------------------------------


def test_a_new_home_says_what_is_not_there_yet(visitor: Visitor) -> None:
    page = visitor.page()
    assert page.tiles == {"Serving": ("no version", "the teacher answers what needs a model")}
    for words in ("Nothing has been asked yet.", "no run has tried held-out questions yet", "No version serves"):
        assert words in page.text
    assert page.tables == {}
    assert "Nothing has been asked yet." in visitor.page("/exchanges").text


def test_what_was_only_imported_was_not_asked(visitor: Visitor, home: Home) -> None:
    ExchangeLog(home).add_many([Exchange("p", "a", "import", source="import")])
    page = visitor.page()
    assert page.tiles["Answered here this week"] == ("–", "nothing was asked in the last 7 days")
    assert page.tiles["Right, by audits"] == ("not measured", "no answer given here was put to the teacher yet")
    assert page.tiles["Calls saved"][0] == "0"
    assert page.tiles["Money saved"] == ("not known", "no answer of the teacher has a known price")
    assert "Nothing has been asked yet; 1 exchange came from elsewhere." in page.text


def test_a_query_over_http_is_on_it_with_why(tiny: Tiny, home: Home, claude: FakeClaude, serving: Serving) -> None:
    tiny.publish(home)
    server = serving()
    server.complete(QUESTION)
    told = server.complete(TAUGHT, model="shammah-teacher").headers["x-shammah-exchange"]
    visitor = Visitor(server)
    visitor.sign_in()
    page = visitor.page()
    assert page.tiles["Answered here this week"] == ("50%", "1 of 2 queries")
    assert page.tiles["Serving"][0] == "v0001"
    assert QUESTION in page.text
    assert TAUGHT_ANSWER in page.text
    alone = visitor.page(f"/exchanges/{told}")
    for words in (
        TAUGHT,
        TAUGHT_ANSWER,
        "Why it was answered so",
        "teacher, claude-sonnet-5-5",
        "nothing known now is similar",
    ):
        assert words in alone.text


def test_a_log_that_is_taken_is_said_to_be(visitor: Visitor, home: Home) -> None:
    (one,) = asked(home)
    holder = Holder(home.log)
    try:
        assert "Not all of it can be read now" in visitor.page().text
        assert visitor.get("/exchanges").status == 503
        assert visitor.get(f"/exchanges/{one.id}").status == 503
    finally:
        holder.let_go()
    assert "Not all of it" not in visitor.page().text


def test_a_list_goes_on_where_it_ended(visitor: Visitor, home: Home) -> None:
    made = [one.query for one in asked(home, 120)][::-1]
    found: list[str] = []
    path = "/exchanges"
    for length in (50, 50, 20):
        text = visitor.get(path).body.decode()
        here = re.findall(r"<h3[^>]*>(question \d+\?)</h3>", text)
        assert len(here) == length
        found += here
        older = re.search(r'href="(/exchanges\?[^"]+)" rel="next"', text)
        path = older[1] if older else ""
    assert found == made
    assert not path


def test_times_that_are_equal_lose_nothing(visitor: Visitor, home: Home) -> None:
    moment = datetime.now(UTC)
    ExchangeLog(home).add_many([Exchange(f"question {n}?", "a", "neural", created_at=moment) for n in range(70)])
    text = visitor.get("/exchanges").body.decode()
    older = re.search(r'href="(/exchanges\?[^"]+)" rel="next"', text)
    assert older
    both = text + visitor.get(older[1]).body.decode()
    assert len(set(re.findall(r"<h3[^>]*>question (\d+)\?</h3>", both))) == 70


def test_words_are_looked_for(visitor: Visitor, home: Home) -> None:
    asked(home, 60)
    asked(home, query="What of the 100% <wool>?", answer="Wash it cold.")
    for find in ("WOOL+cold", "100%25", "%3Cwool%3E"):
        page = visitor.page(f"/exchanges?find={find}")
        assert len(page.named("article")) == 1
        assert "Wash it cold." in page.text
    text = visitor.get("/exchanges?find=question+answer").body.decode()
    older = re.search(r'href="(/exchanges\?[^"]+)" rel="next"', text)
    assert older
    assert len(visitor.page(older[1].replace("&amp;", "&")).named("article")) == 10
    for find in ("nowhere%27%22", "%00nowhere", "%F0%28nowhere", "nowhere+" * 500):
        assert "Nothing holds all of these words." in visitor.page(f"/exchanges?find={find}").text


@pytest.mark.parametrize("before", ["x", "2026-01-01", "2026-01-01T00:00:00_x", "'; DROP TABLE exchanges; --"])
def test_a_place_that_is_none_is_refused(visitor: Visitor, home: Home, before: str) -> None:
    asked(home)
    assert visitor.get(f"/exchanges?before={quote(before)}").status == 400


@pytest.mark.parametrize("identity", [UNKNOWN, "x", "1", "..%2f..", "%00"])
def test_an_exchange_that_is_not_there(visitor: Visitor, home: Home, identity: str) -> None:
    asked(home)
    assert visitor.get(f"/exchanges/{identity}").status == 404


def test_a_home_without_a_log_has_no_exchange(visitor: Visitor, home: Home) -> None:
    assert visitor.get(f"/exchanges/{UNKNOWN}").status == 404
    assert visitor.rate(UNKNOWN, "good").status == 404


def test_what_is_damaged_is_told_and_the_rest_is_shown(visitor: Visitor, home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    (one,) = asked(home, model_version="v0001")
    (home.models / "v0001" / "manifest.json").write_text("{")
    assert visitor.page().tables["Versions, newest first"][1][:3] == ["v0001", "champion", "cannot be read"]
    (home.models / "guard.json").write_text("{")
    (home.models / "pointer.json").write_text("{")
    page = visitor.page()
    assert "pointer.json: cannot be read" in page.text
    assert one.query in page.text
    assert visitor.get(f"/exchanges/{one.id}").status == 200


def test_how_trials_ended_is_told(visitor: Visitor, home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    assert "Trials that ended" not in visitor.page().text
    for n, action in enumerate(("promote", "rollback")):
        verdict = Verdict(action, f"2026-01-0{n + 1}T03:00:00+00:00", "6 of 41 <audited> answers were wrong")  # type: ignore[arg-type]
        note(home.models, f"v000{n + 1}", verdict, ["v0001", "v0002"])
    text = visitor.page().text
    last, first = "v0002 was rolled back on 2026-01-02T03:00: 6 of 41 <audited> answers were wrong", "v0001 was promoted on"
    assert text.index("Trials that ended") < text.index(last) < text.index(first)


# -- rating -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rating", "kept"), [("good", ("good", 1.0)), ("bad", ("bad", 1.0)), ("critical", ("good", 10.0))])
def test_a_button_rates(visitor: Visitor, home: Home, rating: str, kept: tuple[str, float]) -> None:
    (one,) = asked(home)
    answer = visitor.rate(one.id, rating)
    assert (answer.status, answer.headers["location"]) == (303, f"/exchanges/{one.id}?noted")
    (row,) = ExchangeLog(home).recent()
    assert (row["rating"], row["weight"], row["correction"]) == (*kept, None)
    page = visitor.page(answer.headers["location"])
    assert "Noted." in page.text
    pressed = {button["value"] for button in page.named("button") if button.get("aria-pressed") == "true"}
    assert pressed == {rating}


@pytest.mark.parametrize(("critical", "weight"), [({}, 1.0), ({"critical": "1"}, 10.0)])
def test_an_answer_is_fixed(visitor: Visitor, home: Home, critical: dict[str, str], weight: float) -> None:
    (one,) = asked(home)
    assert visitor.rate(one.id, "fix", correction="At nine.\r\nNot at ten.", **critical).status == 303
    (row,) = ExchangeLog(home).recent()
    assert (row["rating"], row["weight"], row["correction"]) == ("bad", weight, "At nine.\nNot at ten.")
    assert "At nine." in visitor.page().text
    nearest = visitor.server.appliance.index.nearest(one.query)
    assert nearest is not None
    assert nearest.known.answer == "At nine.\nNot at ten."


def test_a_correction_that_was_called_bad_is_marked_as_withdrawn(visitor: Visitor, home: Home) -> None:
    (one,) = asked(home)
    visitor.rate(one.id, "fix", correction="At nine.")
    for path in ("/", f"/exchanges/{one.id}"):
        assert "corrected" in visitor.page(path).text
        assert "withdrawn" not in visitor.page(path).text
    visitor.rate(one.id, "bad")
    for path in ("/", f"/exchanges/{one.id}"):
        text = visitor.page(path).text
        assert "correction withdrawn" in text
        assert "It should have been, which was called bad too and is withdrawn:" in text
        assert "It should have been:" not in text


def test_a_script_gets_only_the_place_of_the_exchange(visitor: Visitor, home: Home) -> None:
    (one,) = asked(home)
    answer = visitor.post(f"/exchanges/{one.id}/rating", {"rating": "good"}, {"x-part": "1"})
    part = Page(answer.body.decode())
    assert answer.status == 200
    assert [found["id"] for found in part.named("article")] == [f"x-{one.id}"]
    assert part.named("html") == []
    assert "Noted: right." in part.text


@pytest.mark.parametrize(
    ("changes", "fields", "told"),
    [
        ({}, {"rating": "fix", "correction": "At nine."}, "Noted: this is what it will learn."),
        ({"complete": False}, {"rating": "fix", "correction": "At nine."}, "Noted: this is what it will learn."),
        (
            {"trainable": False},
            {"rating": "fix", "correction": "At nine."},
            "Noted, and not trained on: it is kept out of training.",
        ),
        (
            {},
            {"rating": "fix", "correction": "Sorry, I cannot help with that. I'm sorry, I can't."},
            "Noted: this is what it will learn.",
        ),
        (
            {},
            {"rating": "fix", "correction": "I'm sorry, but I can't help with that."},
            "Noted, and not trained on: it only says that there is no answer.",
        ),
        ({}, {"rating": "critical"}, "Noted: right, it counts ten times."),
        ({"trainable": False}, {"rating": "critical"}, "Noted: right, and not trained on: it is kept out of training."),
        ({"complete": False}, {"rating": "critical"}, "Noted: right, and not trained on: the answer is incomplete."),
        ({"complete": False}, {"rating": "good"}, "Noted: right."),
    ],
)
def test_what_no_night_will_learn_is_not_promised(
    visitor: Visitor, home: Home, changes: dict[str, bool], fields: dict[str, str], told: str
) -> None:
    (one,) = asked(home, **changes)
    part = Page(visitor.post(f"/exchanges/{one.id}/rating", fields, {"x-part": "1"}).body.decode())
    assert told in part.text
    if told != "Noted: right.":
        learned = [kept.id for kept in curate(ExchangeLog(home).learnable(), LEXICAL).kept]
        assert bool(learned) == ("not trained" not in told)


def test_a_correction_that_stands_counts_ten_times(visitor: Visitor, home: Home) -> None:
    (one,) = asked(home, complete=False)
    visitor.rate(one.id, "fix", correction="At nine.")
    part = Page(visitor.post(f"/exchanges/{one.id}/rating", {"rating": "critical"}, {"x-part": "1"}).body.decode())
    assert "Noted: right, it counts ten times." in part.text


@pytest.mark.parametrize(
    "fields", [{"rating": ""}, {"rating": "10"}, {"rating": "fix"}, {"rating": "fix", "correction": " \r\n"}]
)
def test_what_says_nothing_rates_nothing(visitor: Visitor, home: Home, fields: dict[str, str]) -> None:
    (one,) = asked(home)
    assert visitor.post(f"/exchanges/{one.id}/rating", fields).status == 400
    assert ExchangeLog(home).recent()[0]["rating"] is None


def test_what_is_not_there_cannot_be_rated(visitor: Visitor, home: Home) -> None:
    asked(home)
    assert visitor.rate(UNKNOWN, "good").status == 404
    assert visitor.rate("x", "good").status == 400


def test_where_nothing_is_kept_nothing_can_be_rated(home: Home, serving: Serving) -> None:
    (one,) = asked(home)
    visitor = Visitor(serving(offline=True, no_log=True))
    visitor.sign_in()
    page = visitor.page()
    assert "nothing of what is asked is kept" in page.text
    assert [form["action"] for form in page.named("form")] == ["/sign-out"]
    assert visitor.rate(one.id, "good").status == 404


# -- how it reads -----------------------------------------------------------------------------------------------------


def test_what_was_written_is_only_text(visitor: Visitor, home: Home) -> None:
    (one,) = asked(home, query=HOSTILE, answer=HOSTILE, model_version="v0001")
    log = ExchangeLog(home)
    now = datetime.now(UTC)
    log.record_run(RunRecord("20261001T000000000Z", now, now, "refused", HOSTILE, None, {}))
    visitor.rate(one.id, "fix", correction=HOSTILE)
    for path in ("/", "/exchanges", f"/exchanges/{one.id}", f"/exchanges?find={'%3Cscript%3E'}"):
        text = visitor.get(path).body.decode()
        page = Page(text)
        assert "<script>alert('x')</script> \"' & gnp.exe red" in page.text, path
        assert not set(text) & set("\x1b\x9b\u202e\u202c"), path
        assert [script["src"][:8] for script in page.named("script")] == ["/page.js"]
        assert [image["src"][:9] for image in page.named("img")] == ["/page.svg"]
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on") or name == "style"], tag


def test_a_long_text_is_cut_in_a_list_and_whole_on_its_own(visitor: Visitor, home: Home) -> None:
    (one,) = asked(home, query="q " * 3000, answer="a " * 3000)
    assert len(visitor.get("/").body) < 20_000
    assert "a " * 3000 in visitor.page(f"/exchanges/{one.id}").text


def test_it_can_be_read_by_keyboard_and_by_ear(visitor: Visitor, home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    (one, *_) = asked(home, 3)
    visitor.rate(one.id, "fix", correction="c")
    for path in ("/", "/exchanges", f"/exchanges/{one.id}"):
        page = visitor.page(path)
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels)), path
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids)), path
        for _, attributes in page.elements:
            for name in (attributes.get("aria-labelledby", "") + " " + attributes.get("aria-describedby", "")).split():
                assert name in ids, (path, name)
        labelled = {label["for"] for label in page.named("label") if "for" in label}
        for field in (*page.named("textarea"), *page.named("input")):
            if field.get("type") not in ("hidden", "checkbox"):
                assert field["id"] in labelled
        for svg in page.named("svg"):
            assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-labelledby"])
        assert len(page.named("table")) == len(page.named("caption"))
        assert all(head.get("scope") in ("row", "col") for head in page.named("th"))
        assert page.named("html") == [{"lang": "en"}]
        for landmark in ("header", "main", "nav"):
            assert page.named(landmark), landmark


def test_colours_can_be_told_from_their_grounds() -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for what is drawn."""
    schemes: list[dict[str, str]] = [{}, {}]
    for path in STYLE:
        style = path.read_text(encoding="utf-8")
        for scheme, block in zip(schemes, style.split("@media (prefers-color-scheme: dark)"), strict=True):
            scheme |= dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    assert schemes[0].keys() == schemes[1].keys()
    for colours in schemes:
        for text, ground in (("accent", "card"), ("accent", "page"), ("on", "accent"), ("ink", "field"), ("page", "ink")):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["accent"], colours["track"]) >= 4.5
        for drawn in ("neural", "learned", "template", "teacher", "nobody", "border"):
            assert contrast(colours[drawn], colours["card"]) >= 3, drawn


def test_every_class_has_a_style(visitor: Visitor, home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    asked(home, 3)
    style = visitor.get("/page.css").body.decode()
    used = {name for _, attributes in visitor.page().elements for name in attributes.get("class", "").split()}
    assert {name for name in used if not re.search(rf"\.{name}\b", style)} <= {"drawn"}
