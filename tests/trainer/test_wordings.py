import pytest

from shammah_trainer.wordings import Changed, classes, difference, most_central, outdated, shared

PLAIN = "A refund takes 5 working days to reach your account after the shop sends it. Ask the shop for the refund reference."
OTHER = "Refunds reach the account 5 working days after the shop sends them; ask the shop for the refund reference."
SORRY = "Don't worry, a refund takes 5 working days from the day the shop sends it. Ask it for the refund reference."


def together(*texts: str, queries: list[list[str]] | None = None, alike: bool = True) -> int:
    """How many classes there are."""
    found = classes(texts, queries or [["refund?"]] * len(texts), lambda pairs: [alike] * len(pairs)).same
    return len({found.root(n) for n in range(len(texts))})


def test_other_words_for_the_same_facts_are_one_class() -> None:
    assert difference(PLAIN, OTHER) is None
    assert together(PLAIN, OTHER, SORRY) == 1


def test_other_questions_keep_answers_apart() -> None:
    assert together(PLAIN, OTHER, alike=False) == 2
    assert together(PLAIN, PLAIN.upper(), alike=False) == 1


@pytest.mark.parametrize(
    ("a", "b", "changed"),
    [
        (PLAIN, PLAIN.replace("5", "7"), Changed("number", True)),
        (PLAIN, OTHER.replace("5 working", "working"), Changed("number", False)),
        ("Ask Marta at the front desk.", "Ask Jonas at the front desk.", Changed("name", True)),
        ("Ask at the front desk for the key.", "Ask Jonas at the front desk for the key.", Changed("name", False)),
        ("Run it with --force on the first night.", "Run it with --dry-run on the first night.", Changed("name", True)),
        ("You can take guests along to lunch.", "You cannot take guests along to lunch.", Changed("negation", True)),
        ("Use the red door on the left side.", "Use the blue door on the left side.", Changed("word", True)),
        ("#!/bin/bash\ncat $from >> $to", "#!/bin/bash\ncat $to >> $from", Changed("code", True)),
        ("def f(x):\n    return x", "def f(x):\n    return x * x", Changed("code", True)),
    ],
)
def test_facts_that_differ(a: str, b: str, changed: Changed) -> None:
    assert difference(a, b) == changed
    assert together(a, b) == 2


SHOP = "The shop opens at 9 on weekdays and closes at 5 for customers."
PRICE = "The shop charges $50 per month for customers on weekdays."
LOAD = "Set the shop timeout when load > 5 in the weekday config."


@pytest.mark.parametrize(
    ("a", "b", "what"),
    [
        (SHOP.replace("at 9", "at 5 am"), SHOP.replace("at 9", "at 5 pm"), "number"),
        (SHOP, SHOP.replace("9", "x").replace("5", "9").replace("x", "5"), "number"),
        (SHOP, SHOP.replace("9", "five").replace("5", "nine"), "number"),
        (PRICE, PRICE.replace("$", "€"), "number"),
        (PRICE, PRICE.replace("$50", "50 €"), "number"),
        (PRICE.replace("$50", "1,5 euros"), PRICE.replace("$50", "15 euros"), "number"),
        ("It shuts 5 hours on day 10 and 10 minutes later.", "It shuts 5 minutes on day 10 and 10 hours later.", "number"),
        ("The shop opens again on 2024-05-06 after a break.", "The shop opens again on 2024-06-05 after a break.", "number"),
        (LOAD, LOAD.replace(">", "<"), "number"),
        (LOAD, LOAD.replace(">", "<="), "number"),
        (LOAD.replace(">", "over"), LOAD.replace(">", "under"), "number"),
        (LOAD.replace("> 5", "is 5"), LOAD.replace("> 5", "is −5"), "number"),
        ("In this case it gives you 7 + 2 of them.", "In this case it gives you 7 - 2 of them.", "number"),
        ("营业时间是9点到5点。", "营业时间是5点到9点。", "number"),
        ("我们的商店在星期天营业。", "我们的商店在星期天不营业。", "negation"),
        ("我们昨天有收到您的付款。", "我们昨天没有收到您的付款。", "negation"),
        ("Der Laden ist an Wochentagen geöffnet.", "Der Laden ist an Wochentagen nicht geöffnet.", "negation"),
        ("Am Eingang gibt es Karten.", "Am Eingang gibt es keine Karten.", "negation"),
        ("Le magasin n'ouvre le dimanche qu'à midi.", "Le magasin n'ouvre pas le dimanche qu'à midi.", "negation"),
        ("Le magasin de la gare est ouvert le lundi.", "Le magasin de la gare n'est pas ouvert le lundi.", "negation"),
        ("La tienda abre los domingos.", "La tienda nunca abre los domingos.", "negation"),
        ("The change of the day is -$5.", "The change of the day is $5.", "number"),
        (PRICE + " It opens at 5.", PRICE.replace("$50", "$5") + " It opens at 50.", "number"),
        ("La porte du magasin ferme le dimanche à midi.", "La porte du magasin ne ferme pas le dimanche à midi.", "negation"),
    ],
)
def test_small_signs_make_another_answer_of_nearly_the_same_text(a: str, b: str, what: str) -> None:
    assert difference(a, b) == difference(b, a) == Changed(what, True)  # type: ignore[arg-type]
    assert together(a, b) == 2


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (SHOP, SHOP.replace("9", "nine").replace("5", "five")),
        (SHOP, SHOP.replace("at 5", "at 5 pm")),
        (SHOP, SHOP.replace("at 9", "at 9 (yes, 9)")),
        (SHOP.replace("at 5", "at 5 PM"), SHOP.replace("at 5", "at 5pm")),
        (PRICE, PRICE.replace("$50", "50 dollars")),
        (PRICE.replace("50", "1000"), PRICE.replace("50", "1,000")),
        (LOAD.replace("> 5", ">= 5"), LOAD.replace("> 5", "≥5")),
        (LOAD, LOAD.replace(">", "over")),
        (
            SHOP.replace("at 9", "at 9:00").replace("at 5", "at 17:00"),
            SHOP.replace("at 9", "at 9 am").replace("at 5", "at 5 pm"),
        ),
        (PRICE, PRICE.replace("$50", "$50.00")),
        ("It keeps 50% of the fee.", "It keeps 50 percent of the fee."),
        ("The sum of 5 and 7 makes 12.", "The sum of 7 and 5 makes 12."),
        (LOAD.replace("> 5", "-> 5"), LOAD.replace("> 5", "< 5").replace("<", "")),
        ("1. Take the 5 red keys along.\n2. Open door 9 then.", "Take the 5 red keys along.\nOpen door 9 then."),
        ("- 5 red keys of the house\n- 9 blue keys of the house", "* 5 red keys of the house\n* 9 blue keys of the house"),
        ("Der Laden ist auch sonntags geöffnet.", "Der Laden ist nicht zuletzt auch sonntags geöffnet."),
        ("Le magasin est ouvert, appelez au numéro 5.", "Le magasin est ouvert, n'hésitez pas, appelez au numéro 5."),
        ("商店星期天从9点到5点营业。", "没问题,商店星期天从9点到5点营业。"),
    ],
)
def test_how_a_value_is_written_and_a_manner_of_speaking_make_no_difference(a: str, b: str) -> None:
    assert difference(a, b) is None
    assert difference(b, a) is None


def test_a_bare_no_denies() -> None:
    found = difference("No, guests bring their own lunch to the canteen.", "Guests bring their own lunch to the canteen.")
    assert found == Changed("negation", True)


def test_a_negation_in_passing_denies_nothing() -> None:
    assert difference(PLAIN, f"That is no problem. {PLAIN}") is None


def test_few_words_in_common_tell_nothing() -> None:
    assert shared("It is about ferns.", "It is about bats.") == 0.0
    assert shared("Here.", "There.") == 0.0
    assert shared("42", "It is 42.") == 1.0
    assert together("About ferns.", "About bats.") == 2


def test_what_the_questions_name_must_not_differ() -> None:
    grapes = "No, grapes are considered dangerous for dogs to eat."
    chocolate = "No, chocolate is considered dangerous for dogs to consume or eat."
    queries = [["May dogs eat grapes?"], ["Is chocolate safe for dogs?"]]
    assert together(grapes, chocolate, queries=queries) == 2


def test_no_two_of_a_class_differ() -> None:
    """The middle one says what each of the others says; they contradict each other in a name."""
    left = "The key hangs in the hall next to the large mirror; Marta has another key of the hall."
    right = "The key hangs in the hall next to the large mirror; Jonas has another key of the hall."
    assert together(left, right) == 2
    assert together(left, right, left.replace("hangs in", "is in")) == 2


def test_what_leaves_something_out_is_related() -> None:
    less = OTHER.replace("5 working", "some working")
    found = classes((PLAIN, less), [["refund?"]] * 2, lambda pairs: [True] * len(pairs))
    assert found.same.root(0) != found.same.root(1)
    assert found.related.root(0) == found.related.root(1)


def test_the_most_central_wording_is_nearest_to_all() -> None:
    far = "Refund: 5 days. Reference: the shop."
    assert most_central({PLAIN: 1, OTHER: 1, far: 1}) != far
    assert most_central({far: 5, OTHER: 1}) == far
    assert most_central({"One word here.": 1}) == "One word here."


OLD, NEW = "The guest password is harbour 9053, ask again later.", "The guest password is harbour 7741, ask again later."


def test_the_newest_facts_are_in_force() -> None:
    texts = {0: OLD, 1: NEW, 2: "Somewhere else entirely."}
    assert outdated([0, 0, 1], texts, [[0, 2]]) == {0: 1}
    # Whoever was given last is in force.
    assert outdated([0, 1, 0], texts, [[0, 1]]) == {1: 0}


def test_what_was_not_asked_the_same_or_is_not_alike_is_no_change() -> None:
    texts = {0: OLD, 1: NEW, 2: "Somewhere else entirely, with 3 doors."}
    assert outdated([0, 0, 1], texts, []) == {}
    assert outdated([0, 2], texts, [[0, 1]]) == {}
    assert outdated([0, 1], {0: PLAIN, 1: OTHER}, [[0, 1]]) == {}


def test_facts_may_change_twice() -> None:
    texts = {0: OLD, 1: NEW, 2: NEW.replace("7741", "1188")}
    assert outdated([0, 1, 2], texts, [[0, 1, 2]]) == {0: 2, 1: 2}
