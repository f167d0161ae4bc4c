import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.judge import normalize
from shammah_trainer.duplicates import LEAST_OVERLAP, Partition, near_duplicates

LONG = "how do I reset the password of my mail account"


def sets(queries: list[str]) -> set[frozenset[str]]:
    """The partition as sets of queries."""
    found = near_duplicates(queries)
    return {
        frozenset(query for n, query in enumerate(queries) if found.root(n) == root)
        for root in {found.root(n) for n in range(len(queries))}
    }


def together(a: str, b: str) -> bool:
    """Whether two queries are near-duplicates when there is nothing else."""
    found = near_duplicates([a, b])
    return found.root(0) == found.root(1)


def plain(query: str) -> str:
    """Normalized, a word that is a number in groups of three digits without its commas."""
    words = normalize(query).split(" ")
    return " ".join(word.replace(",", "") if re.fullmatch(r"[1-9]\d?\d?(,\d\d\d)+", word) else word for word in words)


def reference(a: str, b: str) -> bool:
    """The definition: the same numbers, and a Jaccard overlap of character trigrams of at least LEAST_OVERLAP."""
    a, b = plain(a), plain(b)
    if sorted(re.findall(r"\d+", a)) != sorted(re.findall(r"\d+", b)):
        return False
    grams = []
    for text in (a, b):
        padded = "  " + re.sub(r"[^\w+*/%=<>-]+", " ", text).strip() + " "
        grams.append({padded[at : at + 3] for at in range(len(padded) - 2)})
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1]) >= LEAST_OVERLAP


@pytest.mark.parametrize(
    "other",
    [
        LONG.upper(),
        f"{LONG}?",
        f"  {LONG.replace(' ', '   ')} ...",
        LONG.replace("mail", "e-mail"),
        f"{LONG}s",
        f"please: {LONG}",
    ],
)
def test_case_punctuation_and_a_letter_do_not_part(other: str) -> None:
    assert together(LONG, other)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is 15 + 27?", "What is 15 + 28?"),
        ("What is 15 + 27?", "What is 15 - 27?"),
        ("how do I upgrade the server from version 2 to 3", "how do I upgrade the server from version 3 to 4"),
        ("is the office open on the 4th of May this year", "is the office open on the of May this year"),
        (LONG, "when does the canteen open on Fridays"),
        ("open", "close"),
    ],
)
def test_other_numbers_and_other_words_part(a: str, b: str) -> None:
    assert not together(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1,000", "1000"),
        ("$1,000,000", "$1000000"),
        ("1,234,567.50", "1234567.50"),
        ("12,000km", "12000km"),
        ("１，０００", "1000"),
    ],
)
def test_commas_of_thousands_part_no_numbers(a: str, b: str) -> None:
    assert together(f"how do I pay {a} into the account of my landlord", f"how do I pay {b} into the account of my landlord?")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1,5", "15"),
        ("3,14", "314"),
        ("1,2,3", "123"),
        ("1,000,5", "10005"),
        ("1,2,000", "12000"),
        ("0,125", "0125"),
        ("1,0000", "10000"),
        ("1,000", "1,001"),
    ],
)
def test_other_commas_stay(a: str, b: str) -> None:
    assert not together(
        f"how do I pay {a} into the account of my landlord", f"how do I pay {b} into the account of my landlord"
    )


def test_a_list_keeps_its_numbers_whatever_their_order() -> None:
    assert together("what is the sum of the numbers 1,2,3 and so on", "what is the sum of the numbers 3,2,1 and so on")


def test_it_is_transitive() -> None:
    chain = [LONG, f"{LONG} at home", f"{LONG} at home and abroad", f"{LONG} at home and abroad or at sea"]
    assert not together(chain[0], chain[-1])
    assert sets(chain) == {frozenset(chain)}


def test_queries_without_a_letter_are_the_same() -> None:
    assert together("???", "!")


def test_more_queries_than_one_chunk() -> None:
    queries = [f"item {n} {'abcdefghij'[n % 10] * 12}" for n in range(1500)]
    found = near_duplicates([*queries, queries[3].upper(), queries[1400] + "?"])
    assert found.root(1500) == 3
    assert found.root(1501) == 1400
    assert len({found.root(n) for n in range(1502)}) == 1500


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30), st.randoms())
def test_a_partition_does_not_depend_on_the_order_of_joins(pairs: list[tuple[int, int]], rng: object) -> None:
    first, second = Partition(20), Partition(20)
    for a, b in pairs:
        first.join(a, b)
    for a, b in reversed(pairs):
        second.join(b, a)
    roots = [first.root(n) for n in range(20)]
    assert roots == [second.root(n) for n in range(20)]
    assert all(roots[root] == root <= n for n, root in enumerate(roots))


WORDS = st.sampled_from(
    [
        "reset",
        "password",
        "mail",
        "account",
        "router",
        "the",
        "my",
        "of",
        "a",
        "how",
        "do",
        "I",
        "7",
        "42",
        "1,042",
        "1042",
        "4,2",
        "-",
        "+",
    ]
)
QUERIES = st.lists(st.lists(WORDS, min_size=1, max_size=8).map(" ".join), max_size=12)


@given(QUERIES)
def test_every_pair_of_the_definition_shares_a_set(queries: list[str]) -> None:
    found = near_duplicates(queries)
    for a in range(len(queries)):
        for b in range(a):
            if reference(queries[a], queries[b]):
                assert found.root(a) == found.root(b)


@given(QUERIES)
def test_what_shares_a_set_is_linked_by_near_duplicates(queries: list[str]) -> None:
    found = near_duplicates(queries)
    linked = Partition(len(queries))
    for a in range(len(queries)):
        for b in range(a):
            if reference(queries[a], queries[b]):
                linked.join(a, b)
    assert [found.root(n) for n in range(len(queries))] == [linked.root(n) for n in range(len(queries))]
