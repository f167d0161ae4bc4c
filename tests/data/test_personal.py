"""Personal data is found in a generated corpus, and other numbers and addresses are left alone."""

import random
import string
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.credentials import HEX, after, look_alikes, of, one_id
from shammah_data.personal import redact_personal

Draw = Callable[[random.Random], str]
EACH = 300


def digits(count: int) -> Draw:
    return of(string.digits, count)


def email(rng: random.Random) -> str:
    name = rng.choice(["ann.lee", "j_doe", "info", "o'neill", "max.muster", "a", "sales-team", "x+tag", "m.99"])
    host = rng.choice(["example.org", "mail.example.co.uk", "uni-x.example.de", "sub.dom.example.museum", "EXAMPLE.COM"])
    return f"{name}{rng.randrange(100)}@{host}"


def card(rng: random.Random) -> str:
    starts = [("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16), ("3530", 16)]
    first, length = rng.choice(starts)
    body = first + digits(length - len(first) - 1)(rng)
    total = sum(n - 9 if n > 9 else n for n in (int(c) * (2 - k % 2) for k, c in enumerate(reversed(body))))
    number = body + str(-total % 10)
    separator = rng.choice(["", " ", "-"])
    cuts = [0, 4, 10, 15] if length == 15 else [0, 4, 8, 12, 16]
    return separator.join(number[a:b] for a, b in pairwise(cuts))


ACCOUNTS = {
    "DE": digits(18),
    "FR": digits(23),
    "AT": digits(16),
    "ES": digits(20),
    "CH": digits(17),
    "BE": digits(12),
    "PL": digits(24),
    "NO": digits(11),
    "NL": after("ABNA", digits(10)),
    "GB": after("NWBK", digits(14)),
}


def iban(rng: random.Random) -> str:
    country = rng.choice(list(ACCOUNTS))
    rest = ACCOUNTS[country]
    body = rest(rng)
    check = 98 - int("".join(str(int(c, 36)) for c in body + country + "00")) % 97
    number = f"{country}{check:02d}{body}"
    return " ".join(number[n : n + 4] for n in range(0, len(number), 4)) if rng.random() < 0.5 else number


FORMS = (
    *("+49 30 #######", "+49 (0)89 ### ###-##", "+49301#######", "0049 171 #######", "+1 212-555-####", "+1 (415) 555-####"),
    *("(212) 555-####", "415-555-####", "415.555.####", "+44 20 7946 ####", "+44 7700 9#####", "020 7946 ####"),
    *("01632 96####", "+33 1 ## ## ## ##", "01 ## ## ## ##", "06.##.##.##.##", "+41 44 ### ## ##", "044 ### ## ##"),
    *("030/#######", "0171-#######", "089 / ######", "+34 91# ### ###", "612 ### ###", "+31 6 ########"),
    *("+39 06 #### ####", "+91 98### #####", "(030) ######"),
)


def phone(rng: random.Random) -> str:
    form = rng.choice(FORMS)
    return "".join(rng.choice("23456789") if c == "#" else c for c in form)


PERSONAL: dict[str, Draw] = {"e-mail": email, "card": card, "iban": iban, "phone": phone}
SENTENCES = (
    *("{}", "Is {} right?", "write to {}.", "({})", "my number: {},\nthanks", "<{}>", '"{}"', "tel:{}", "Ich bin unter {} da"),
    *("| {} |", "**{}**", "联系{}。", "x;{};y", "I am Ann, {}, and you?"),
)


def without_check(rng: random.Random) -> str:
    number = card(rng)
    return f"card {number[:-1]}{(int(number[-1]) + 1) % 10}"


OTHERS: dict[str, Draw] = {
    "date": lambda rng: f"on {rng.randrange(1900, 2100)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d} at 10:15:30",
    "date, dots": lambda rng: f"am {rng.randrange(1, 29):02d}.{rng.randrange(1, 13):02d}.{rng.randrange(1900, 2100)}",
    "date, slashes": lambda rng: f"{rng.randrange(1, 13):02d}/{rng.randrange(1, 29):02d}/{rng.randrange(1900, 2100)}",
    "instant": lambda rng: f"2024-05-{rng.randrange(10, 29)}T10:{rng.randrange(10, 59)}:00.{digits(6)(rng)}+02:00",
    "epoch": lambda rng: f"at {digits(10)(rng)} or {digits(13)(rng)}",
    "version": lambda rng: f"version {rng.randrange(99)}.{rng.randrange(999)}.{rng.randrange(9999)}-rc.{rng.randrange(9)}",
    "address": lambda rng: f"host 192.168.{rng.randrange(256)}.{rng.randrange(256)}:{rng.randrange(1000, 9999)}",
    "price": lambda rng: f"it costs ${rng.randrange(1, 999)},{digits(3)(rng)}.{digits(2)(rng)} or 1 234 567 €",
    "sum": lambda rng: f"What is {rng.randrange(1000)} + {rng.randrange(1000)} - {rng.randrange(10000)}?",
    "sum, long": lambda rng: f"{digits(8)(rng)} * {digits(9)(rng)} = {digits(17)(rng)}",
    "series": lambda rng: "1 2 4 8 16 32 64 " + " ".join(str(rng.randrange(100)) for _ in range(8)),
    "matrix": lambda rng: "\n".join(" ".join(str(rng.randrange(100, 1000)) for _ in range(4)) for _ in range(3)),
    "decimal": lambda rng: f"3.{digits(18)(rng)} and -0.{digits(12)(rng)}",
    "order": lambda rng: f"order {digits(12)(rng)} of customer {digits(9)(rng)}",
    "card, no check": without_check,
    "isbn": lambda rng: f"ISBN 978-{digits(1)(rng)}-{digits(4)(rng)}-{digits(4)(rng)}-{digits(1)(rng)}",
    "uuid": lambda rng: f"id {one_id(rng)}",
    "hash": lambda rng: f"commit {of(HEX, 40)(rng)}",
    "years": lambda rng: f"from {rng.randrange(1800, 2000)} to {rng.randrange(2000, 2100)}, {rng.randrange(1000, 2000)}-2020",
    "range": lambda rng: f"pages {rng.randrange(100, 999)}-{rng.randrange(1000, 9999)}",
    "measure": lambda rng: f"{digits(3)(rng)} x {digits(4)(rng)} px, 12 000 000 people",
    "git": lambda rng: f"git@example.org:team{rng.randrange(99)}/repo.git and pip install name@1.{rng.randrange(9)}",
    "login": lambda rng: f"postgres://ann:pw{rng.randrange(99)}@db.example.org/shop",
    "decorator": lambda rng: f"@app.route('/x{rng.randrange(99)}') and @types/node@20.{rng.randrange(99)}.1",
    "handle": lambda rng: f"ask @ann{rng.randrange(999)} or a @ b.example",
    "coordinates": lambda rng: f"52.{digits(6)(rng)}, 13.{digits(6)(rng)}",
    "iban, no check": lambda rng: f"DE00{digits(18)(rng)}",
}


@pytest.mark.parametrize("kind", PERSONAL)
def test_personal_data_is_found(kind: str) -> None:
    rng = random.Random(21)
    missed = []
    for n in range(EACH):
        found = PERSONAL[kind](rng)
        text = SENTENCES[n % len(SENTENCES)].format(found)
        if redact_personal(text) != text.replace(found, f"[personal:{kind}]"):
            missed.append((text, redact_personal(text)))
    assert len(missed) <= (0.05 if kind == "phone" else 0.01) * EACH, missed


def test_what_only_looks_like_it_is_left_alone() -> None:
    rng = random.Random(22)
    marked = Counter[str]()
    texts = [(name, draw(rng)) for name, draw in OTHERS.items() for _ in range(50)]
    texts += [(name, text) for name, text in look_alikes(300) if name not in {"ssh key", "port"}]
    assert len(texts) >= 1000
    for name, text in texts:
        if redact_personal(text) != text:
            marked[name] += 1
            print(text, "->", redact_personal(text))
    assert marked.total() <= 0.01 * len(texts), marked


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("mailto:ann@example.org?subject=x", "mailto:[personal:e-mail]?subject=x"),
        ("Ann <ann@example.org>, Bo <bo@example.org>", "Ann <[personal:e-mail]>, Bo <[personal:e-mail]>"),
        ("4111 1111 1111 1111", "[personal:card]"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("DE89 3704 0044 0532 0130 00 BIC", "[personal:iban] BIC"),
        ("DE88370400440532013000", "DE88370400440532013000"),
        ("call +49 30 1234567 now", "call [personal:phone] now"),
        ("15 + 27", "15 + 27"),
        ("", ""),
    ],
)
def test_marks_name_the_kind_and_leave_the_rest(text: str, left: str) -> None:
    assert redact_personal(text) == left


def all_kinds(seed: int) -> str:
    return " ".join(draw(random.Random(seed)) for draw in PERSONAL.values())


@given(st.text() | st.text("0123456789 +-.()/@aDE:\n") | st.integers().map(all_kinds))
def test_a_second_pass_changes_nothing(text: str) -> None:
    once = redact_personal(text)
    assert redact_personal(once) == once
