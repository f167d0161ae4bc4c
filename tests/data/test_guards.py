"""What must not differ between two queries that get one answer."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.guards import conflict, settled
from shammah_data.opposites import CLASSES, UNITS
from shammah_data.sense import sense
from shammah_data.stems import stem

# (kind, one query, another one that must not get its answer)
DIFFERENT = [
    ("number", "What is 15 + 27?", "What is 15 + 28?"),
    ("number", "Which files are older than 7 days?", "Which files are older than 30 days?"),
    ("number", "a table for two at eight", "a table for four at eight"),
    ("number", "what is the square root of sixteen", "what is the square root of 36"),
    ("number", "convert 30 dollars", "convert thirty five dollars"),
    ("unit", "How far is the lake in miles?", "How far is the lake in kilometres?"),
    ("unit", "sixty five pounds in stone, grams", "sixty five pounds in stone, kilograms"),
    ("unit", "remind me in 5 minutes", "remind me in 5 hours"),
    ("negation", "Can I take the card abroad?", "Can I not take the card abroad?"),
    ("negation", "Why does the printer work?", "Why doesn't the printer work?"),
    ("negation", "a flight with luggage", "a flight without luggage"),
    ("negation", "files that are readable", "files that are not readable"),
    ("name", "Which trains go from Paris on a Sunday?", "Which trains go from London on a Sunday?"),
    ("name", "What is in /etc/hosts?", "What is in /etc/passwd?"),
    ("name", "What does tar --list do?", "What does tar --get do?"),
    ("name", "Does the scanner work with SAP?", "Does the scanner work with IBM?"),
    ("name", "list all *.txt files here", "list all *.html files here"),
    ("name", "files of user 'wn' in the archive", "files of user 'wnj' in the archive"),
    ("opposite", "files changed exactly one hour ago", "files changed within one hour"),
    ("name", 'Who said "to be"?', 'Who said "go away"?'),
    ("opposite", "How do I enable the firewall?", "How do I disable the firewall?"),
    ("opposite", "turn on the lamp in the hall", "turn off the lamp in the hall"),
    ("opposite", "When does the shop open?", "When does the shop close?"),
    ("opposite", "Do I eat before the test?", "Do I eat after the test?"),
    ("opposite", "How can I increase my limit?", "How can I decrease my limit?"),
    ("opposite", "Where do I buy shares?", "Where do I sell shares?"),
    ("opposite", "upload a photo to the album", "download a photo of the album"),
    ("opposite", "how do I lock the card", "how do I unlock the card"),
    ("opposite", "subscribe me to the letter", "unsubscribe me from the letter"),
    ("opposite", "the maximum age for a ticket", "the minimum age for a ticket"),
    ("opposite", "is the office open on monday mornings", "is the office open on friday mornings"),
    ("opposite", "will it rain tonight", "will it rain tomorrow"),
    ("opposite", "the first chapter of the book", "the third chapter of the book"),
    ("opposite", "log in to the portal", "log out of the portal"),
    ("opposite", "an incoming call costs what", "an outgoing call costs what"),
    ("opposite", "archive the documented cases", "archive the undocumented cases"),
    ("direction", "a train from Rome to Milan", "a train from Milan to Rome"),
    ("direction", "move money from savings to checking", "move money to savings from checking"),
    ("direction", "convert pounds to grams", "convert grams to pounds"),
    ("direction", "translate german into french", "translate french into german"),
    ("direction", "how many ounces are in a pound", "how many pounds are in an ounce"),
    ("direction", "does Anna owe Bert", "does Bert owe Anna"),
    ("direction", "the dog bites the man", "the man bites the dog"),
    ("owner", "What is my limit?", "What is your limit?"),
    ("question", "When does the shop open?", "Where does the shop open?"),
    ("question", "who painted the chapel", "when was the chapel painted"),
    ("slot", "what timezone is japan in", "what timezone is chile in"),
    ("slot", "how long do I cook lentils for", "how long do I cook ham for"),
    ("slot", "the weather in new zealand today", "the weather in saudi arabia today"),
    ("slot", "Wie öffne ich das Konto?", "Wie schließe ich das Konto?"),
    ("slot", "東京の時間", "北京の時間"),
    ("name", "¿Qué hora es en Lima?", "¿Qué hora es en Quito?"),
    # Other words around it do not make another number, name or direction of it.
    ("number", "which files are older than 7 days", "list what nobody has changed for 30 days"),
    ("number", "set an alarm for 7", "set an alarm"),
    ("name", "Is the road to Norway open?", "Is the road open?"),
    ("name", "delete all files like *.mp3 in the folder", "remove the text files below here"),
    ("direction", "move my money from savings to checking", "can checking cash go to savings please"),
    ("negation", "it dont print", "it does print"),
    ("negation", "search the folder for files that are not readable", "all readable files below this directory"),
    ("negation", "why doesn't my printer print in colour", "does it print photos in colour"),
    ("slot", "what is the timezone in japan", "please what is the timezone in chile"),
    # A currency before its number, and the halves of a day.
    ("unit", "How do I pay $50?", "How do I pay €50?"),
    ("unit", "a bill of $ 50", "a bill of 50 euros"),
    ("unit", "the fee of £5,000.50", "the fee of USD 5000.50"),
    ("unit", "Is the shop open at 5 am?", "Is the shop open at 5 pm?"),
    ("unit", "is it open at 5 A.M.?", "is it open at 5pm?"),
    ("unit", "call me at five am", "please call at 5 pm"),
    ("unit", "20 minutes there, 3 hours here", "20 hours there, 3 minutes here"),
    # Operators between numbers, and their order.
    ("formula", "What is 7 + 3?", "What is 7 - 3?"),
    ("formula", "What is 15 - 27?", "What is 27 - 15?"),
    ("formula", "What is 10 / 4?", "What is 4 / 10?"),
    ("formula", "how much is 10÷4", "how much is 10×4"),
    ("formula", "What is 2 + 3 * 4?", "What is 2 * 3 + 4?"),
    ("formula", "What is 2 ^ 3?", "What is 3 ** 2?"),
    ("formula", "What does if x > 5 do?", "What does if x < 5 do?"),
    ("formula", "What does if count >= 5 do?", "What does if count > 5 do?"),
    ("formula", "What is 30 minus 12?", "What is 12 - 30?"),
    ("formula", "what is 2 to the power of 10", "what is 10 to the power of 2"),
    ("formula", "What is x=5?", "What is x!=5?"),
    ("formula", "What day is 2024-05-06?", "What day is 2024-06-05?"),
    ("formula", "What day is 5/6/2024?", "What day is 6/5/2024?"),
    ("number", "what is new in version 1.5", "what is new in version 5.1"),
    # A letter with its signs.
    ("name", "What is C++?", "What is C?"),
    ("name", "What is C#?", "What is C?"),
    ("name", "How do I run a loop in C++?", "How do I run a loop in C#?"),
    ("name", "C vs C++?", "C vs C#?"),
    ("name", "a loop in C++17", "a loop in C 17"),
    # Denials in other languages.
    ("negation", "Kann ich den Vertrag kündigen?", "Kann ich den Vertrag nicht kündigen?"),
    ("negation", "Gibt es dafür eine Gebühr?", "Gibt es dafür keine Gebühr?"),
    ("negation", "Puis-je payer par carte ?", "Ne puis-je pas payer par carte ?"),
    ("negation", "Je peux payer par carte", "Je ne peux plus payer par carte"),
    ("negation", "La tienda abre los domingos", "La tienda nunca abre los domingos"),
    ("number", "营业时间是9点吗", "营业时间是8点吗"),
    ("number", "python 3.10 news", "python 3.1 news"),
    ("formula", "is it ≤ 5", "is it ≥ 5"),
    ("slot", "Le magasin est ouvert le lundi", "Le magasin n'est pas ouvert le lundi"),
    ("negation", "El trámite es posible los lunes", "El trámite no es posible los lunes"),
    ("negation", "可以退款吗", "不可以退款吗"),
    ("negation", "收到退款了", "没收到退款"),
    # Who does it to whom, in whatever words.
    ("direction", "Did Mia send Leo the parcel?", "Was the parcel sent to Mia by Leo?"),
    ("direction", "Was Leo called by Mia?", "Did Leo call Mia?"),
    ("direction", "Was the bus hit by the tram?", "Did the bus hit the tram?"),
    ("direction", "Who taught Leo?", "Whom did Leo teach?"),
    ("direction", "Which firm bought Acme?", "Which firm did Acme buy?"),
    ("direction", "Do I owe the shop money?", "Does the shop owe me money?"),
    ("direction", "Should I call you?", "Should you call me?"),
    ("direction", "Who can see me?", "Who can I see?"),
    ("direction", "Is every rose a flower?", "Is every flower a rose?"),
    ("direction", "Are all roses flowers?", "Are all flowers roses?"),
    ("direction", "Is Mia Leo's aunt?", "Is Leo Mia's aunt?"),
    ("direction", "Divide 12 by 3", "divide 3 by 12"),
    ("direction", "Replace tabs with spaces", "replace all spaces with tabs"),
    ("opposite", "How do I make a set out of a list?", "How can I convert a set into a list?"),
    ("direction", "How do I convert PNG to SVG?", "What is the best way of turning an SVG file into a PNG?"),
    # Times, and what may be and what should.
    ("question", "Did the fee change?", "Will the fee change?"),
    ("question", "Who won the race?", "Who will win the race?"),
    ("question", "Can I reboot the server?", "Should I reboot the server?"),
    ("question", "Are all seats free?", "Are some seats free?"),
    ("opposite", "What did I pay last month?", "How much have I paid this month?"),
    ("opposite", "is the office open on 5 may", "is the office open on march 5"),
    ("opposite", "is it due in jan", "in february, is it due"),
    # Denials in a word of their own, with a hyphen or without.
    ("opposite", "Is the fare refundable?", "Is the fare non-refundable?"),
    ("opposite", "How do I like a page?", "How do I unlike a page?"),
    ("opposite", "Is cash accepted there?", "Is the shop there cashless?"),
    ("negation", "Is the cake with sugar?", "Is it a sugar-free cake?"),
    ("negation", "Is it very useful?", "Is it hardly useful?"),
    # Opposites: of a word by what stands beside it, of several words, of both kinds.
    ("opposite", "When can I check in?", "When can I check out?"),
    ("opposite", "Did they vote for it?", "Did they vote against it?"),
    ("opposite", "What is the output of the tool?", "Tell me the input that the tool takes"),
    ("opposite", "Is there a ticket for adults?", "What about a child's ticket?"),
    ("opposite", "Is the tenant to pay?", "Must the landlord pay for it?"),
    ("opposite", "How do I upgrade my plan?", "I would like to downgrade my plan"),
    ("opposite", "At least how many may come?", "Up to how many guests may come?"),
    ("opposite", "Do you have virtual cards?", "I want one of the physical cards"),
    # Common words that are one letter apart, and letters.
    ("slot", "How do I protect the file?", "How do I project the file?"),
    ("opposite", "Is the employer liable?", "Is the employee liable?"),
    ("slot", "does the pass cover zone a", "does the pass cover zone b"),
    # Options of one letter, what is counted, comparisons in other words, times from and until.
    ("name", "What does -r do in cp?", "What does -R do in cp?"),
    ("direction", "How many cups are in a litre?", "One cup is how many litres?"),
    ("direction", "Is tea healthier than juice?", "Is juice more healthy than tea?"),
    ("direction", "Is Oslo bigger than Bergen?", "Is Bergen a bigger town than Oslo?"),
    ("direction", "Who followed Ann as head?", "Who did Ann follow as head?"),
    ("question", "Is it open from 8?", "Is it open until 8?"),
    ("opposite", "Is the letter for me?", "Is the letter from me?"),
    ("opposite", "When does the fair start?", "when is the fair over"),
    ("opposite", "Is the scale accurate?", "The scale is inaccurate, isn't it?"),
    ("direction", "Is a method called before the loop?", "Is the loop called before a method?"),
    ("direction", "Does the cat like the new dog?", "Does the new dog like the cat?"),
    ("negation", "Is it sugar free?", "Is it with sugar?"),
    ("opposite", "Is the tip added to the price?", "Is the tip taken off the price?"),
]
# Two ways of asking for one thing.
SAME = [
    ("How do I reset my PIN?", "how do i reset my pin"),
    ("How do I reset my PIN?", "I need to reset my PIN, please"),
    ("What is 2 plus 3?", "What is two plus three?"),
    ("My card isn't working", "my card doesn't work"),
    ("How do I verify my identity?", "identity verification, how?"),
    ("Where can I get a new card?", "How can I order a new card?"),
    ("find all files/directories here", "find all directories here"),
    ("Is there an ATM near the hotel?", "where near the hotel is a place to withdraw cash"),
    ("find the file modified exactly yesterday", "find the file modified excatly yesterday"),
    ("The transfer fails", "The transfer does not go through"),
    ("a train from Rome to Milan", "I want to go by train to Milan from Rome"),
    ("my tires should be changed when", "when should my tires be changed"),
    # More than one thing differs: a word in place of another, a time, a place or a denial among them need not matter.
    ("Can you remove my account please?", "I am trying to delete my account."),
    ("Does it cost extra to exchange currencies?", "Is there an extra fee to exchange currencies?"),
    ("I made a transfer 12 hours ago. Why is it still pending?", "How long do transfers take, mine just says pending?"),
    ("i can't find my w-2", "what is the process for obtaining a copy of a form W-2"),
    ("I am on holiday in Spain and lost the card", "How do I replace a card that was stolen?"),
    ("Find regular files in the current directory", "Search the current directory for regular files, recursively"),
    ("dont understand why the transfer failed", "My transfer failed, why?"),
    ("My card hasn't come", "How long does delivery of a card take?"),
    ("transfer 50 to account 12", "to account 12 transfer 50"),
    ("How do I pay $50?", "How do I pay 50 dollars?"),
    ("How do I pay $50?", "How do I pay 50$?"),
    ("How do I pay 50 usd?", "How do I pay US$50?"),
    ("Find all .mp3 files with more than 10MB and delete them", "Find all regular .mp3 files larger than 10M and delete them"),
    ("Is it open at 5pm?", "Is it open at 5 PM?"),
    ("Is it open at 5pm?", "Is it open at 5 p.m.?"),
    ("is it open at 5 pm", "At 5 P.M., is it open?"),
    ("send an e-mail to the desk", "send an email to the desk"),
    ("Is the desk open 24/7?", "24/7, is the desk open?"),
    ("cash and/or cheque", "cash or cheque"),
    ("Is C++ fast?", "is c++ fast"),
    ("Is option b in C++?", "C++: is it option b?"),
    ("where is the check-in desk", "where is the check in desk"),
    ("call 555-1234", "please call 555 1234"),
    ("call 555-12-34", "call 555 - 12 - 34"),
    ("Is it -5 degrees?", "-5 degrees, is it?"),
    ("is it at -5 degrees", "is it -5 degrees"),
    ("a covid-19 test", "a covid 19 test"),
    ("What is 7 + 3?", "What is 3+7?"),
    ("What is 7 + 3?", "What is 7 plus 3?"),
    ("is x > 5 true", "is 5 < x true"),
    ("is x=5 true", "is x == 5 true"),
    ("is 7 + 3 = 10 true", "is 3 + 7 = 10 true"),
    ("is it open at 17:00", "is it open at 5 pm"),
    ("is it 50% off", "is it 50 percent off"),
    ("why was I charged $1", "why was I charged $1.00"),
    ("你来了没有", "你来了"),
    ("it takes 5-10 days", "it takes 5 – 10 days"),
    ("is 06-05-2024 a holiday", "was 2024-05-06 a day off"),
    ("能不能退款", "能退款吗"),
    ("Nicht nur Karten, auch Geld?", "Karten, auch Geld?"),
    ("Il fait un pas", "Fait-il un pas"),
    ("日本の不動産", "不動産、日本の"),
    # Words that say the same, forms and spellings of a word, one word and several.
    ("How do I remove a file?", "How do I delete a file?"),
    ("How do I delete a folder?", "How do I remove a directory?"),
    ("How do I raise my limit?", "How can I increase my limit?"),
    ("How do I disable alerts?", "How do I turn off alerts?"),
    ("How do I log out?", "How do I sign out?"),
    ("Does it come in gray?", "Does it come in grey?"),
    ("What colour is the sofa?", "What color is the sofa?"),
    ("Where is the town centre?", "Where is the town center?"),
    ("My chair broke", "My chair is broken"),
    ("can i pay with my creditcard", "can I pay with my credit card"),
    ("I forgot my code", "I can't remember my code"),
    ("How do I change my adress?", "How do I change my address?"),
    ("how do I cancle my booking", "How do I cancel my booking?"),
    ("How high is the tower?", "How tall is the tower?"),
    ("Is the limit automatic?", "Is the limit auto?"),
    # Numbers in digits and in words.
    ("What is 20% of 90?", "twenty percent of 90 is what?"),
    ("What is the square root of 49?", "Square root of forty-nine?"),
    ("How much is 3 kg of flour?", "How much is three kilos of flour?"),
    ("How do I find files over 2 GB?", "How do I find files larger than 2GB?"),
    ("What happened on 4 July 1776?", "What happened on July 4th, 1776?"),
    ("When did WW2 begin?", "When was the start of WW2?"),
    # The same question, asked for a time or a reason; the same people, told in another order.
    ("When is the deadline?", "What's the deadline?"),
    ("Why do I get error 404?", "What is the reason for error 404?"),
    ("Is a cat or a dog better?", "What is better, a dog or a cat?"),
    ("Compare React to Vue", "Compare Vue to React"),
    ("Did Mia call Leo?", "Was Leo called by Mia?"),
    ("I received the wrong chair", "You sent me the wrong chair"),
    ("Can I leave before the course ends?", "Can I leave while the course is running?"),
    ("What does a new chair cost to replace the old one?", "Is there a fee for new chairs in shops?"),
    ("is my oil change due", "how do you know if your oil needs changed"),
    ("What's the wifi password?", "What is the password for the Wi-Fi?"),
    ("Remind me in 1 hour", "remind me in an hour"),
    ("how do i chnage my code", "how do I change my code"),
    ("Which version of Rust do I have?", "How do I check my Rust version?"),
    ("when was bach born", "when was bach born Thanks!"),
    ("Must a code have 8 signs?", "Could you help me? Must a code have 8 signs?"),
    ("How do I unzip a file?", "How do I extract a zip file?"),
    ("Do you do gluten free?", "Is there anything gluten-free?"),
]


@pytest.mark.parametrize(("kind", "one", "other"), DIFFERENT)
def test_a_difference_that_matters_is_found_from_both_sides(kind: str, one: str, other: str) -> None:
    there, back = conflict(one, other), conflict(other, one)
    assert there is not None
    assert back is not None
    assert (there.kind, back.kind) == (kind, kind)
    assert there.reason


@pytest.mark.parametrize(("one", "other"), SAME)
def test_another_way_of_asking_is_no_conflict(one: str, other: str) -> None:
    assert conflict(one, other) is None
    assert conflict(other, one) is None


WORDS = sorted(
    {*CLASSES, *UNITS, "not", "from", "to", "in", "my", "your", "when", "who", "7", "two", "Paris", "card", "card's"}
    | {
        "$",
        "€50",
        "5 pm",
        "5am",
        "-",
        "+",
        "<",
        ">",
        "=",
        "x",
        "c",
        "c#",
        "c++",
        "2024-05-06",
        "nicht",
        "ne",
        "pas",
        "不",
        "没",
    }
)
QUERIES = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), st.text(string.printable, max_size=30), st.text()
)


@given(QUERIES, QUERIES)
def test_it_is_symmetric(one: str, other: str) -> None:
    there, back = conflict(one, other), conflict(other, one)
    assert (there and there.kind) == (back and back.kind)


@given(QUERIES)
def test_a_query_never_contradicts_itself(query: str) -> None:
    assert conflict(query, query) is None
    assert conflict(query, f"  {query} . ") is None


@given(st.sampled_from(sorted(CLASSES)))
def test_a_word_stands_on_one_side_of_a_class(word: str) -> None:
    names = [name for name, _ in CLASSES[word]]
    assert len(names) == len(set(names))


def test_signs_without_words_are_compared() -> None:
    assert conflict("&", "@") is None
    assert conflict("", "_") is None
    assert conflict("every january a june", "every june a january") is not None


@given(st.text())
def test_any_text_has_a_sense(text: str) -> None:
    found = sense(text)
    assert found.content <= set(found.stems)
    assert len(found.words) == len(found.stems)


@pytest.mark.parametrize(
    ("words", "common"),
    [("verify verification", "verify"), ("paying pays", "pay"), ("stopped stops", "stop"), ("oil's oils", "oil")],
)
def test_inflections_share_a_stem(words: str, common: str) -> None:
    assert {stem(word) for word in words.split()} == {common}


def test_another_query_with_the_same_answer_bears_witness() -> None:
    near = "what timezone is chile in"
    assert settled("what timezone is japan in", [near])[0] is None
    assert settled("what timezone is japan in", [near, "time over there"])[0] is None
    place, conflict_ = settled("what timezone is japan in", [near, "the timezone of japan, please"])
    assert place == 1
    assert conflict_ is not None
    assert conflict_.kind == "slot"


def test_the_nearest_query_without_a_conflict_settles_it() -> None:
    assert settled("how do I pay", ["how can I pay", "how do I not pay"]) == (0, None)
    place, found = settled("how do I pay", ["how do I not pay", "how can I pay"])
    assert (place, found and found.kind) == (1, "negation")
    assert settled("how do I pay", [])[0] is None
