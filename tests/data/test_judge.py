import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shammah_data.judge import facts, judge, normalize, same_facts


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("Yes, it works.", "yes, it works"),
        ("The shop opens at nine every morning.", "Every morning the shop opens at 9."),
        ("It costs 1,000 dollars a month.", "Every month it costs 1000 dollars."),
        ("Run `shammah-serve` in a terminal.", "In a terminal, run shammah-serve."),
        ("Type /quit or press Ctrl-D to leave.", "To leave, press Ctrl-D or type /quit."),
        ("You should not delete the log.", "The log: you shouldn't delete it."),
        ("No.", "No, it does not."),
        ("It is 10MB in size.", "In size it is 10 MB."),
        ("Say “Done.” to Zoë at the desk.", "At the desk, say done to Zoë"),
        ("Shops and ATMs take the card.", "The card is taken at a shop or an ATM."),
        ("First open the app, then freeze the card.", "1. Open the app.\n2. Freeze the card there first."),
        ("Look at google.com/find on another phone.", "On another phone, look at google.com/find or ring."),
        (
            "Shops that charge later reject a disposable card, as its number changes. Use a normal card.",
            "Nothing is wrong: a disposable card changes its number, so shops do not accept it later. Use a normal card.",
        ),
        ("After that the card stops working in shops.", "The card does not work in shops after that."),
        ("You have two options:\n- pay in cash\n- pay by cheque", "Pay in cash, or pay by cheque."),
        ("Clip on the red cable, then the black.", "Clip on the red cable, then the black, until all four clips are on."),
        (
            "You cannot cancel a payment that is pending until the shop collects it.",
            "Cancelling a payment that is pending is not possible if the shop never collects it.",
        ),
        ("A transfer needs 1 working day.", "One working day is what a transfer needs."),
        ("See Example.org for free reports.", "Example.org has free reports to see."),
        ("Upload a document, e.g. a passport.", "Upload a passport or another document."),
        ("Charging a card at home is free of fees.", "A card is charged at home, and no fees are due."),
        ("If the tax form does not come by mail, call the office.", "Missing the tax form? Call the office, or ask by mail."),
        ("Pets I have: none. I would choose a cat.", "I have no pets, but I would choose a cat."),
        (
            "Cards by Visa, in GBP. No American Express or Maestro.",
            "Visa cards in GBP. American Express and Maestro are not taken.",
        ),
        ("Two equal entries are one payment and a hold.", "Are both entries equal? One is the payment, and one a hold."),
        ("I'm sorry that your refund has not come. It takes 5 days.", "A refund takes 5 days to come."),
        ("Don't open new accounts, keep old ones open.", "Avoid opening new accounts. Keep old accounts open."),
        (
            "If it takes longer than 5 days, ask the shop for help.",
            "It takes 5 days. If those have gone by and there is still nothing, ask the shop for help.",
        ),
        ("It costs $50 a month.", "It costs 50 dollars a month."),
        ("It takes 5 min to cook.", "It takes five minutes to cook."),
        ("A file of 10M at most is sent.", "A file of 10 MB at most is sent."),
        ("It opens at 9 am and closes at 5 pm.", "It closes at 5 pm, and opens at 9 am."),
        ("It takes 3 to 5 working days.", "It takes 3-5 days, working ones."),
        ("It takes 2 days and costs 2 euros.", "It costs 2 euros, and takes 2 days."),
        ("It opens at 5pm on weekdays.", "It opens on weekdays at 5 pm."),
        ("It opens at 5 p.m. on weekdays.", "It opens at 5 pm on weekdays."),
        ("It closes at 17:00 on weekdays.", "It closes at 5 pm on weekdays."),
        ("It closes at 17:30 on weekdays.", "It closes at 5:30 P.M. on weekdays."),
        ("Open from 09:00 to 17:00.", "Open from nine to 5pm."),
        ("The train leaves at 0:15 at night.", "The train leaves at 12:15 am at night."),
        ("It opens at 9:00 on weekdays.", "It opens at 9 on weekdays."),
        ("Um 17:00 Uhr schließt der Laden.", "Der Laden schließt um 17 Uhr."),
        ("It keeps 50% of the fee.", "It keeps 50 % of the fee."),
        ("It keeps 50% of the fee.", "It keeps 50 percent of the fee."),
        ("The factor is 1.50 here.", "The factor is 1.5 here."),
        ("It costs $1.50 a piece.", "It costs $1.5 a piece."),
        ("It costs $5.00 a piece.", "It costs 5 dollars a piece."),
        ("It costs 1,00,000 rupees.", "It costs 100000 rupees."),
        ("A costs $5 and B $7.", "B costs $7 and A $5."),
        ("A costs $5 and B costs $7 a month.", "B costs $7 and A costs $5 a month."),
        ("It takes 5 days for A and 7 days for B.", "A takes 5 days and B takes 7 days."),
        ("The shop opens at 9 and closes at 5.", "The shop closes at 5 and opens at 9."),
        ("On Monday from 9 to 5. On Sunday from 10 to 4.", "On Sunday from 10 to 4. On Monday from 9 to 5."),
        ("The sum of 5 and 7 makes 12.", "The sum of 7 and 5 makes 12."),
        ("5 times 7 makes 35.", "7 times 5 makes 35."),
        ("7 + 3 = 10 is right.", "10 = 3 + 7 is right."),
        ("7 is greater than 3.", "3 is less than 7, which is greater."),
        ("It takes between 5 and 10 days.", "It takes between 10 and 5 days."),
        (
            "Here: the day it was sent is day 1. It takes 5 to 10 days to reach you.",
            "It reaches you 5 to 10 days after day 1, which it was sent.",
        ),
        ("1 mile is 1.6 km, 1 km is 0.62 miles.", "0.62 miles is 1 km, 1.6 km is 1 mile."),
        ("The GDP was 5 in 2019 and 7 in 2020.", "In 2020 the GDP was 7, in 2019 it was 5."),
        ("Compute 15 - 27 for that.", "For that compute 15 minus 27."),
        ("- Take 9 keys.\n- 5 doors are open.", "Take 9 keys. 5 doors are open."),
        ("1 | Utopia | 10/09/2020\n2 | Bloods | 12/06/2018", "2 | Bloods | 12/06/2018\n1 | Utopia | 10/09/2020"),
        ("Set the timeout when load > 5.", "Set the timeout when load is over 5."),
        ("Der Laden ist sonntags geschlossen.", "Der Laden ist sonntags nicht geöffnet."),
        ("Der Laden ist sonntags nicht geöffnet.", "Sonntags ist der Laden nicht geöffnet."),
        ("Der Laden ist auch sonntags geöffnet.", "Der Laden ist nicht nur werktags, auch sonntags geöffnet."),
        ("Le magasin est fermé le dimanche.", "Le magasin n'est pas ouvert le dimanche."),
        ("Le magasin n'ouvre que le dimanche.", "Le magasin ouvre le dimanche seulement."),
        ("Le magasin est ouvert, appelez le 5.", "Le magasin est ouvert, n'hésitez pas, appelez le 5."),
        ("La tienda está cerrada los domingos.", "La tienda no está abierta los domingos."),
        ("La tienda abre los domingos.", "No se preocupe, la tienda abre los domingos."),
        ("Check if 'n' is 0, else 'n' is returned.", "If 'n' is 0 check it, else 'n' is returned."),
        ("It is −5 degrees outside.", "It is -5 degrees outside."),
    ],
)
def test_the_same_facts_in_other_words_are_right(reference: str, answer: str) -> None:
    verdict = judge(reference, answer)
    assert verdict, verdict.reason


@pytest.mark.parametrize(
    ("reference", "answer", "reason"),
    [
        ("It takes 5 days to arrive.", "It takes some days to arrive.", "missing number 5"),
        ("It takes days to arrive.", "It takes 5 days to arrive.", "other number 5"),
        ("It takes 5 days to arrive.", "It takes 6 days to arrive.", "missing number 5"),
        ("It takes five days to arrive.", "It takes six days to arrive.", "missing number 5"),
        ("The shop opens at 5 pm on weekdays.", "The shop opens at 5 am on weekdays.", "other unit than 5 am"),
        ("The shop opens at 5pm on weekdays.", "The shop opens at 5am on weekdays.", "other unit than 5 am"),
        ("It costs $50 per month.", "It costs €50 per month.", "other unit than 50 dollar"),
        ("It costs 50 dollars per month.", "It costs 50 euros per month.", "other unit than 50 dollar"),
        ("It costs $50 per month.", "It costs 50 euros per month.", "other unit than 50 dollar"),
        ("The pipe is 5 km long.", "The pipe is 5 m long.", "other unit than 5 kilometer"),
        ("The pipe is 5 km long.", "The pipe is 5 miles long.", "other unit than 5 kilometer"),
        ("Keep it at 20 minutes.", "Keep it at 20 hours.", "other unit than 20 hour"),
        ("Keep it for twenty minutes.", "Keep it for 20 hours.", "other unit than 20 hour"),
        ("The change is -5 today.", "The change is 5 today.", "missing number -5"),
        ("The change is -$5 today.", "The change is $5 today.", "missing number -5"),
        ("It is −5 degrees outside.", "It is 5 degrees outside.", "missing number -5"),
        ("It takes 1,5 hours to cook.", "It takes 15 hours to cook.", "missing number 1,5"),
        ("It closes at 17:00 on weekdays.", "It closes at 5 am on weekdays.", "missing number 17"),
        ("It needs Python 3.10 or newer.", "It needs Python 3.1 or newer.", "missing number 3.10"),
        ("The latest version is 3.10 now.", "The latest version is 3.1 now.", "missing number 3.10"),
        ("A file of 50% is kept.", "A file of 50 is kept.", "missing number 50%"),
        ("A costs $5 and B $7", "A costs $7 and B $5", "5 stands in another place"),
        ("A costs $5 and B costs $7 a month.", "B costs $5 and A costs $7 a month.", "5 stands in another place"),
        (
            "The standard plan costs $5 a month and the premium plan costs $7 a month.",
            "Standard is $7 a month, premium is $5 a month.",
            "5 stands in another place",
        ),
        (
            "The red bus takes 5 minutes, the blue one 7, the green one 9.",
            "The red bus takes 7 minutes, the blue one 9, and the green one 5.",
            "5 stands in another place",
        ),
        (
            "The shop opens at 9 am and closes at 5 pm.",
            "The shop opens at 5 pm and closes at 9 am.",
            "5 stands in another place",
        ),
        ("It opens at 9:00 and closes at 17:00.", "It opens at 5 pm and then closes at 9 am.", "17 stands in another place"),
        ("It runs from 9:15 to 10:30.", "It runs from 9:30 to 10:15 then.", "10:30 stands in another place"),
        ("It is open from 9 to 5 on weekdays.", "On weekdays it is open from 5 to 9.", "5 stands in another place"),
        ("The break is from 5 June to 6 May.", "The break is from 6 June to 5 May.", "5 stands in another place"),
        ("A and B cost $5 and $7 respectively.", "A and B cost $7 and $5 respectively.", "5 stands in another place"),
        ("The sorted list is [5, 6, 7].", "The sorted list is [5, 7, 6].", "6 stands in another place"),
        ("2 of 3 tests pass here.", "Here, 3 of 2 tests pass.", "2 stands in another place"),
        ("营业时间是9点到5点。", "营业时间是5点到9点。", "9 stands in another place"),
        ("营业时间是9点。", "营业时间是8点。", "missing number 9"),
        ("It reopens on 2024-05-06 after a break.", "After a break it reopens on 2024-06-05.", "not the same: 2024 05 06"),
        ("The result of 15 - 27 is right.", "The result of 27 - 15 is right.", "not the same: 15 - 27"),
        ("It is 15 minus 27 here.", "It is 27 minus 15 here.", "not the same: 15 - 27"),
        ("Compute 7 + 3 for that.", "Compute 7 - 3 for that.", "not the same: 3 7 +"),
        ("Set the timeout when load > 5.", "Set the timeout when load < 5.", "not the same: 5 < load"),
        ("Set the timeout when load is over 5.", "Set the timeout when load is under 5.", "not the same: 5 < is"),
        ("It listens on 127.0.0.1 only.", "It listens on 127.0.0.2 only.", "missing number 127.0.0.1"),
        ("It is 10MB in size.", "It is 10GB in size.", "missing name mb"),
        ("1. Wait 3 days.\n2. Call.", "1. Wait 4 days.\n2. Call.", "missing number 3"),
        ("Then run `make install` here.", "Then run it here.", "missing name make install"),
        ("The command is `shammah-log` here.", "The command is shammah-login here.", "missing name shammah-log"),
        ("Run `shammah` first.", "Run shammah-log first.", "missing name shammah"),
        ("Look in /etc/hosts for it.", "Look in the file for it.", "missing name /etc/hosts"),
        ("Look in /etc for it.", "Look in /etc/hosts for it.", "missing name /etc"),
        ("Pass --json to print it.", "Pass an option to print it.", "missing name --json"),
        ("Pass -v to see more.", "Pass --verbose to see more.", "missing name -v"),
        ("Edit config.toml for that.", "Edit settings.toml for that.", "missing name config.toml"),
        ("Set max_tokens to change that.", "Set min_tokens to change that.", "missing name max_tokens"),
        ("You must ask Alice in sales.", "You must ask Bob in sales.", "missing name alice"),
        ("You must ask Élodie in sales.", "You must ask Zoé in sales.", "missing name élodie"),
        ("The log is deleted at night.", "The log is not deleted at night.", "one of the two is negated"),
        ("The log wasn't deleted at night.", "The log was deleted at night.", "one of the two is negated"),
        (
            "You cannot pay at night. You can cancel the transfer.",
            "You cannot pay at night. You can not cancel the transfer.",
            "one of the two is negated",
        ),
        ("The card does not fail in shops abroad.", "The card fails in shops abroad.", "one of the two is negated"),
        ("The museum is open on Monday.", "No, the museum opens its doors to nobody on Monday.", "one of the two is negated"),
        (
            "Enter /good right after an answer; the rating is kept in the log.",
            "Give /good right after an answer; it is then never trained on unless you correct it.",
            "one of the two is negated",
        ),
        ("Is the museum open at night? No.", "The museum is open at night.", "one of the two is negated"),
        ("Der Laden ist sonntags geöffnet.", "Der Laden ist sonntags nicht geöffnet.", "one of the two is negated"),
        ("Am Eingang gibt es Karten.", "Am Eingang gibt es keine Karten.", "one of the two is negated"),
        ("Le magasin est ouvert le dimanche.", "Le magasin n'est pas ouvert le dimanche.", "one of the two is negated"),
        ("Vous pouvez payer par carte.", "Vous ne pouvez plus payer par carte.", "one of the two is negated"),
        (
            "Le virement prend 5 jours. Vous le voyez dans l'application.",
            "Le virement prend 5 jours. Vous ne le voyez pas dans l’application.",
            "one of the two is negated",
        ),
        ("La tienda abre los domingos.", "La tienda no abre los domingos.", "one of the two is negated"),
        ("La tienda abre los domingos.", "La tienda nunca abre los domingos.", "one of the two is negated"),
        ("退款需要5天。您可以在应用中看到。", "退款需要5天。您不可以在应用中看到。", "one of the two is negated"),
        ("You have two cards and two accounts.", "You have cards and accounts.", "missing number 2"),
        ("It takes 1 day to arrive there.", "It takes a day to arrive there.", "missing number 1"),
        ("The log is deleted at night.", "", "the answer is empty"),
        ("The log is deleted at night.", " \n\t", "the answer is empty"),
        ("Bananas are yellow fruit.", "Trains leave hourly.", "shares 0%"),
        ("Hello! How can I help?", "Glad that it helped.", "shares 50%"),
        ("?!", "Anything at all", "the reference states nothing"),
    ],
)
def test_another_fact_is_wrong_and_the_reason_says_which(reference: str, answer: str, reason: str) -> None:
    verdict = judge(reference, answer)
    assert not verdict
    assert verdict.reason.startswith(reason)


@given(st.text(min_size=1))
def test_every_text_says_what_it_says(text: str) -> None:
    assume(text.strip())
    assert judge(text, text)


@given(st.text(), st.text())
def test_any_two_texts_can_be_judged(reference: str, answer: str) -> None:
    verdict = judge(reference, answer)
    assert verdict.reason
    assert verdict.right is bool(verdict)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_another_number_is_never_right(wanted: int, given_: int) -> None:
    assert bool(judge(f"The sum is {wanted} apples.", f"So the sum is {given_} apples.")) is (wanted == given_)


@given(st.text())
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


def test_the_facts_of_a_text() -> None:
    found = facts("Ask Alice for 3 keys; don't use --force in /tmp/x or max_size.")
    assert set(found.numbers) == {"3"}
    assert found.names == {"alice", "--force", "/tmp/x", "max_size"}
    assert found.negated
    assert {"keys", "ask"} <= found.words


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A refund takes 5 days to arrive.", "Refunds arrive within 5 days, it takes no longer.", False),
        (
            "A refund takes 5 days to arrive.",
            "Wait 5 days: a refund will then arrive in the account of the buyer, under the old date.",
            True,
        ),
        ("The office of Ann opens at 9 on weekdays.", "The shop of Ann opens at 9 on sundays.", False),
        ("Ask Ann at the desk.", "Ask Bob at the desk.", False),
        ("Answer alpha.", "Answer beta.", False),
        ("Nine.", "nine", True),
        ("A refund takes 5 days to arrive.", "A refund takes 7 days to arrive.", False),
    ],
)
def test_wordings_of_the_same_facts(one: str, other: str, same: bool) -> None:
    assert same_facts(one, other) is same
    assert same_facts(other, one) is same
