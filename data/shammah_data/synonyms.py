"""English words that say the same wherever they stand, irregular forms, spellings: one word for each. Knows no sentence.

Only what may stand for one another in every question is here: who asks about a "folder" asks about a "directory", but who
resets a thing need not restart it.
"""

import re

from shammah_data.words import NUMERALS

_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_ONES = "one|two|three|four|five|six|seven|eight|nine"
# A line for each meaning: words and their forms.
_SAME = """
add insert
remove delete erase deletion removal remover
folder directory
shop store
parcel package
edit modify change alter modification
increase raise
decrease reduce lower reduction
buy purchase
begin start commence
enable activate activation
disable deactivate deactivation
big large
bigger larger
biggest largest
fast quick rapid
faster quicker
fastest quickest
tall high
taller higher
tallest highest
nearest closest
newest latest
phone telephone smartphone cellphone
photo picture photograph pic
movie film
tv television telly
holiday vacation
postcode zipcode
luggage baggage
kid child
mum mom mother mam mama
dad father papa
car automobile
doctor physician
sofa couch
lift elevator
fix repair mend
restart reboot
exit quit
kill terminate
join concatenate concat
extract unzip unpack decompress
incorrect wrong
cheap inexpensive
close shut closed
speak talk
reply answer respond response
customer client
employee staff worker
automatic auto
maximum max maximal
minimum minimal
configuration config configure
repository repo
documentation docs
database db
administrator admin
register registration
cancel cancellation
install installation
reserve reservation booking
convert conversion
subscribe subscription
mandatory required compulsory obligatory
forbidden prohibited banned
cost price
grey gray
license licence
program programme
catalog catalogue
dialog dialogue
center centre
theater theatre
fiber fibre
defense defence
offense offence
installment instalment
fulfill fulfil
enroll enrol enrollment enrolment
jewelry jewellery
tire tyre
aluminum aluminium
travel travelling traveling travelled traveled
label labelled labeled labelling labeling
total totalled totaled
dial dialled dialed dialling dialing
"""
# A word, and what it is a form of, where no ending tells it.
_FORMS = """
go went gone
take took taken
come came
become became
give gave given
get got gotten
make made
say said
tell told
send sent
spend spent
bring brought
think thought
teach taught
catch caught
pay paid
sell sold
lose lost
steal stole stolen
break broke broken
choose chose chosen
drive drove driven
eat ate eaten
fly flew flown
forget forgot forgotten
freeze froze frozen
grow grew grown
hide hid hidden
keep kept
know knew known
lend lent
meet met
ring rang rung
run ran
leave left
find found
feel felt
sing sang sung
sleep slept
swim swam swum
throw threw thrown
understand understood
wake woke woken
wear wore worn
win won
write wrote written
rewrite rewrote rewritten
overwrite overwrote overwritten
build built
begin began begun
withdraw withdrew withdrawn
buy bought
hold held
hear heard
draw drew drawn
drink drank drunk
fight fought
tear tore torn
undo undid undone
close shuts shutting
die died dying
show shown
see saw seen
bite bit bitten
child children
man men
woman women
person people persons
foot feet
tooth teeth
mouse mice
wife wives
knife knives
shelf shelves
half halves
"""
# What stands between the two words of a verb.
_THING = r"(?: (?!(?:left|right|around|into|back|from|to|in|at|and|or)\b)[\w'-]+)"
# What is said to be left out, without a hyphen too: "is it sugar free", but not "is parking free".
_LEFT_OUT = "gluten|sugar|lactose|dairy|nut|alcohol|caffeine|fat|meat|smoke|tax|duty|interest"
# Several words for one; \\1 and \\2 are what stands between and behind.
_SEVERAL = (
    (r"\b(?:log|sign)(?:s|ged|ging|ed|ing)? (?:in|on|into)\b(?: to\b)?", "login"),
    (r"\b(?:log|sign)(?:s|ged|ging|ed|ing)? (?:out|off)\b(?: of\b)?", "logout"),
    (r"\bsign(?:s|ed|ing)? up\b", "register"),
    (rf"\b(?:turn|switch)(?:s|es|ed|ing)?({_THING}{{0,3}}?) on\b", r"enable\1"),
    (rf"\b(?:turn|switch|shut)(?:s|es|ed|ing|ting)?({_THING}{{0,3}}?) off\b", r"disable\1"),
    (rf"\bturn(?:s|ed|ing)?({_THING}{{0,3}}?) up\b", r"increase\1"),
    (rf"\bturn(?:s|ed|ing)?({_THING}{{0,3}}?) down\b", r"decrease\1"),
    (r"\b(?:go|goes|going|went|gone) up\b", "increase"),
    (r"\b(?:go|goes|going|went|gone) down\b", "decrease"),
    (r"\b(?:get|gets|getting|got) rid of\b", "remove"),
    (rf"\b(?:send|sends|sending|sent|give|giving|gave)({_THING}{{0,3}}?) back\b", r"return\1"),
    (rf"\bspeed(?:s|ed|ing)?({_THING}{{0,3}}?) up\b", r"accelerate\1"),
    (rf"\bslow(?:s|ed|ing)?({_THING}{{0,3}}?) down\b", r"decelerate\1"),
    (r"\b(?:you|they|he|she) (?:sent|send) me\b", "i receive"),
    (
        r"\b(?:(?:ca|could|do|did)(?:n't|nt)|cannot|(?:can|could|do|did) not) (?:(?:really|quite|even|seem to) )?"
        r"(?:remember|recall)\b",
        "forget",
    ),
    (rf"\b(?:take|takes|taking|taken|took)({_THING}{{0,2}}?) off\b", r"remove\1"),
    (r"(?<=\w) over$", " ends"),
    # "It is late, isn't it" asks whether it is late.
    (r", \w+n't (?:it|they|he|she|you|we|i|that|there)$|, (?:right|correct|yes)$", ""),
    (r"\b(an?|the|this|my) zip (?=file|archive)", r"\1 "),
    (r"\b(?:free of charge|at no (?:extra )?(?:cost|charge)|for free)\b", "free"),
    (r"\bhow come\b", "why"),
    (r"\b(?:(?:at )?what time|(?:in )?(?:what|which) year)\b", "when"),
    (r"\b(?:cell|mobile) phone", "phone"),
    (r"\b(?:cash machine|cash point|cashpoint)", "atm"),
    (r"\b(?:zip|post|postal) code", "postcode"),
    (r"\b(?:more|larger|bigger|greater|higher) than (?=[$€£]?\d)", "over "),
    (r"\b(?:less|fewer|smaller|lower) than (?=[$€£]?\d)", "under "),
    (r"\bup to (?=how\b|[$€£]?\d)", "at most "),
    (r"\bone-way\b", "oneway"),
    (r"\bin[ -]person\b", "inperson"),
    (rf"\b(?!(?:toll|hands|care)-)(?:(\w{{3,}})-|({_LEFT_OUT}) )free\b", r"without \1\2"),
    # "Non-refundable", "re-send" and "e-mail" are words as "unlocked" is.
    (r"\b(e(?=-[a-z]{4})|(?:non|un|re|de|dis|pre|co)(?=-[a-z]{3}))-", r"\1"),
    (r"\bnon (?=[a-z]{4}\w*(?:able|ible|ing|ed|ant|ent|al)\b)", "non"),
)
_NUMBER = re.compile(
    rf"\b(?:({_TENS})[ -]({_ONES})|({_ONES}) hundred)\b(?! (?:hundred|thousand|million))",
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)$")


def _first(lines: str) -> dict[str, str]:
    return {word: line.split()[0] for line in lines.strip().splitlines() for word in line.split()[1:]}


FORMS = _first(_FORMS)
SAME = _first(_SAME)
_REPLACED = tuple((re.compile(pattern), by) for pattern, by in _SEVERAL)


def in_digits(text: str) -> str:
    """A text with digits for the numbers that are told in two words: "forty-nine", "two hundred"."""
    return _NUMBER.sub(_digits, text)


def _digits(found: re.Match[str]) -> str:
    tens, ones, hundreds = (NUMERALS.get((word or "zero").lower(), "0") for word in found.groups())
    return str(int(tens) + int(ones) + 100 * int(hundreds))


def in_one_word(lower: str) -> str:
    """A text in lower case with one word for what several say: "sign in", "turn the lamp off", "non-stop"."""
    for pattern, by in _REPLACED:
        lower = pattern.sub(by, lower)
    return lower


def spelled_alike(word: str) -> str:
    """A word in one of the spellings that are in use: "organise", "colour", "21st"."""
    if (ordinal := _ORDINAL.match(word)) is not None:
        return ordinal[1]
    if len(word) > 5 and word.isascii():
        for british, american in (
            ("isation", "ization"),
            ("ising", "izing"),
            ("ised", "ized"),
            ("ises", "izes"),
            ("ise", "ize"),
        ):
            if word.endswith(british):
                return word[: -len(british)] + american
        if "our" in word[3:] or word.startswith(("colour", "honour")):
            return word[:3] + word[3:].replace("our", "or") if "our" in word[3:] else word.replace("our", "or", 1)
    return word
