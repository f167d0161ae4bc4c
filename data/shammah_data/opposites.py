"""English words that the guards compare: opposites, units, words that fail, ask or say nothing. Data only."""

# One entry per class, its values separated by |, each with the forms it comes in. Two queries that name other values of a class
# ask for other things; a word may belong to several classes.
_CLASSES = """
power: enable enables enabled enabling activate activates activated activating | disable disables disabled disabling
  deactivate deactivates deactivated deactivating
switch: on | off
open: open opens opened opening | close closes closed closing shut
time: before prior | after afterwards since following | during
change: increase increases increased increasing increments raise raises raised raising | decrease decreases decreased
  decreasing reduce reduces reduced reducing lower lowers lowered lowering
trade: buy buys buying bought buyer buyers purchase purchases purchased purchasing | sell sells selling sold seller sellers
send: send sends sending sent | receive receives received receiving
add: add adds added adding | remove removes removed removing delete deletes deleted deleting
make: create creates created creating | delete deletes deleted deleting remove removes removed removing destroy
install: install installs installed installing | uninstall uninstalls uninstalled uninstalling
lock: lock locks locked locking | unlock unlocks unlocked unlocking
freeze: freeze freezes freezing frozen | unfreeze unfreezes unfreezing unfrozen
block: block blocks blocked blocking | unblock unblocks unblocked unblocking
allow: allow whitelist allowlist allows allowed allowing permit permits permitted | deny denies denied forbid forbids
  forbidden block blacklist blocklist blocks blocked blocking prohibit prohibits prohibited
start: start starts started starting begin begins began beginning | stop stops stopped stopping end ends ended ending
load: upload uploads uploaded uploading | download downloads downloaded downloading
port: import imports imported importing | export exports exported exporting
push: push pushes pushed pushing | pull pulls pulled pulling
crypt: encrypt encrypts encrypted encrypting | decrypt decrypts decrypted decrypting
pack: compress compresses compressed compressing zip | decompress extract extracts extracted extracting unzip unpack
mount: mount mounts mounted mounting | unmount unmounts unmounted unmounting umount
link: connect connects connected connecting | disconnect disconnects disconnected disconnecting
follow: subscribe subscribes subscribed subscribing | unsubscribe unsubscribes unsubscribed unsubscribing
log: login logon | logout logoff
show: show shows showed shown showing reveal | hide hides hid hidden hiding
accept: accept accepts accepted accepting approve approves approved approving | reject rejects rejected rejecting
  refuse refuses refused refusing decline declines declined declining
deposit: deposit deposits deposited depositing | withdraw withdraws withdrew withdrawn withdrawing withdrawal
  withdrawals
lend: lend lends lent lending lender lenders | borrow borrows borrowed borrowing borrower borrowers
card: credit | debit
side: left | right
way: up | down
inside: inside internal internally indoor indoors | outside external externally outdoor outdoors
flow: incoming inbound | outgoing outbound
more: more most | less fewer least fewest
size: large larger largest big bigger biggest greater | small smaller smallest little
length: long longer longest | short shorter shortest
age: new newer newest | old older oldest
early: early earlier earliest | late later latest
height: high higher highest | low lower lowest
limit: maximum max most | minimum min least
speed: fast faster fastest quick quicker quickest | slow slower slowest
heat: hot hotter hottest warm warmer | cold colder coldest cool
price: cheap cheaper cheapest | expensive dear
weight: heavy heavier heaviest | light lighter lightest
good: good better best | bad worse worst
full: full | empty
order: ascending | descending
rank: first | last
term: within | after
bound: exact exactly precisely | within
save: save saves saved saving keep | discard discards discarded
access: read reads reading | write writes writing wrote written
win: win wins won winning | lose loses lost losing
travel: arrive arrives arrived arriving arrival | depart departs departed departing departure leave leaves leaving
public: public | private
domestic: domestic national | international foreign abroad overseas
true: true | false
legal: legal | illegal
same: same | different
all: all every each | none
sex: male man men boy boys husband | female woman women girl girls wife
parent: mother mom mum | father dad
child: son sons | daughter daughters
kin: uncle uncles | aunt aunts
heir: nephew nephews | niece nieces
sibling: brother | sister
day: today tonight | tomorrow | yesterday
weekday: monday mondays | tuesday tuesdays | wednesday wednesdays | thursday thursdays | friday fridays | saturday
  saturdays | sunday sundays
month: january jan | february feb | april apr | june jun | july jul | august aug | september sept sep | october oct |
  november nov | december dec
season: spring | summer | autumn fall | winter
part: morning mornings | noon | afternoon afternoons | evening evenings | night nights midnight
often: daily | weekly | monthly | yearly annually annual | hourly
past: last past previous | next following coming
compass: north northern | south southern | east eastern | west western
above: above over | below under beneath
multiply: add plus sum | minus subtract | times multiply multiplied | divide divided
person: employee employees staff | customer customers client clients | employer employers
seat: front | back rear
pass: pass passes passed | fail fails failed
expand: expand expands expanded | collapse collapses collapsed
merge: merge merges merged | split splits
gain: profit gain | loss
manner: manual manually | automatic automatically auto
colour: red | green | blue | yellow | black | white | orange | purple | pink | brown | grey gray
adult: adult adults grownup | child children kid kids toddler toddlers baby babies infant infants
home: landlord landlords lessor | tenant tenants lessee
mail: sender senders payer payers | recipient recipients receiver receivers payee payees
school: teacher teachers lecturer | student students pupil pupils
end: source sources origin | target targets destination destinations
pipe: input inputs stdin | output outputs stdout
cite: client clients | server servers
code: encode encodes encoded encoding | decode decodes decoded decoding
series: serialize serializes serialized serializing serialise | deserialize deserializes deserialized deserializing deserialise
call: synchronous synchronously sync | asynchronous asynchronously async
include: include includes included including inclusive | exclude excludes excluded excluding exclusive
tax: net | gross
number: even | odd
sign: positive | negative
extent: horizontal horizontally | vertical vertically
ground: latitude | longitude
edge: width | height
sun: sunrise dawn | sunset dusk
door: entrance entry | exit
ticket: oneway single | return roundtrip
plan: free | premium
firm: temporary temporarily | permanent permanently
rate: fixed | variable
kind: physical | virtual
place: online | offline inperson
deck: upper | lower
care: safe safely | dangerous unsafe
work: easy easier easiest simple simpler | difficult hard harder hardest complex
mark: check checked | uncheck unchecked
do: undo undoes undid undone undoing | redo redoes redid redone redoing
grow: upgrade upgrades upgraded upgrading | downgrade downgrades downgraded downgrading
window: maximize maximise maximized | minimize minimise minimized
right: grant grants granted granting | revoke revokes revoked revoking
join: join joins joined joining | leave leaves leaving
cause: cause causes caused causing | prevent prevents prevented preventing
merit: advantage advantages pros benefit benefits upside | disadvantage disadvantages cons drawback drawbacks downside
force: strength strengths strong stronger strongest | weakness weaknesses weak weaker weakest
need: required mandatory compulsory obligatory necessary | optional
hire: hire hires hired hiring | fire fires fired firing
pace: accelerate accelerates accelerated | decelerate decelerates decelerated
wait: pause paused pausing | resume resumed resuming
put: insert inserts inserted inserting | eject ejects ejected ejecting remove removes removed removing
fill: fill fills filled filling refill | empty empties emptied emptying drain
bind: tighten tightens tightened tightening | loosen loosens loosened loosening
fit: attach attaches attached attaching | detach detaches detached detaching
trust: encourage encourages encouraged | discourage discourages discouraged
praise: agree agrees agreed | disagree disagrees disagreed
success: succeed succeeds succeeded success successful successfully | fail fails failed failing failure unsuccessful
champion: winner winners | loser losers
weigh: gain gains gained gaining | lose loses losing lost
life: alive | dead
food: raw | cooked
fresh: fresh | frozen
damp: wet | dry
depth: deep deeper deepest | shallow shallower shallowest
touch: soft softer | hard harder
face: rough | smooth
breadth: wide wider widest broad | narrow narrower narrowest
sound: loud louder loudest | quiet quieter quietest
wealth: rich richer | poor poorer
love: married | divorced unmarried
dirt: clean cleaner | dirty
far: near nearer nearest closer closest | far farther farthest furthest
youth: younger youngest | older oldest elder eldest
local: local locally | remote remotely
mean: mean average | median
money: asset assets | liability liabilities
market: wholesale | retail
user: personal | business corporate
spin: clockwise | counterclockwise anticlockwise
focus: only | also
reach: towards toward | away
bedtime: awake | asleep
state: active | inactive
trip: domestically | internationally
"""


def _parse(text: str) -> dict[str, tuple[tuple[str, str], ...]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.strip().replace("\n  ", " ").splitlines():
        name, values = line.split(":")
        for value in values.split("|"):
            words = value.split()
            for word in words:
                found.setdefault(word, []).append((name, words[0]))
    return {word: tuple(values) for word, values in found.items()}


CLASSES = _parse(_CLASSES)
# The same for two words.
PHRASES = {
    "log in": ("log", "login"),
    "sign in": ("log", "login"),
    "log out": ("log", "logout"),
    "log off": ("log", "logout"),
    "sign out": ("log", "logout"),
    "sign up": ("follow", "subscribe"),
    "turn on": ("power", "enable"),
    "switch on": ("power", "enable"),
    "turn off": ("power", "disable"),
    "switch off": ("power", "disable"),
    "away from": ("reach", "away"),
    "too early": ("early", "early"),
    "no later than": ("early", "late"),
    "more than": ("size", "large"),
    "less than": ("size", "small"),
    "fewer than": ("size", "small"),
    "at least": ("limit", "minimum"),
    "at most": ("limit", "maximum"),
}
ORDINALS = {
    word: str(n)
    for n, word in enumerate("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(), 1)
} | {f"{n}{'st nd rd'.split()[n - 1] if n < 4 else 'th'}": str(n) for n in range(1, 13)}
UNITS = {
    form: forms.split()[0]
    for forms in (
        "gram grams g gramme grammes",
        "kilogram kilograms kg kilo kilos",
        "milligram milligrams mg",
        "pound pounds lb lbs £ gbp",
        "ounce ounces oz",
        "ton tons tonne tonnes",
        "meter meters metre metres",
        "kilometer kilometers kilometre kilometres km kms",
        "centimeter centimeters centimetre centimetres cm",
        "millimeter millimeters millimetre millimetres mm",
        "mile miles",
        "foot feet ft",
        "inch inches",
        "yard yards",
        "liter liters litre litres",
        "milliliter milliliters millilitre millilitres ml",
        "gallon gallons",
        "cup cups",
        "teaspoon teaspoons tsp",
        "tablespoon tablespoons tbsp",
        "celsius centigrade",
        "fahrenheit",
        "kelvin",
        "byte bytes",
        "kilobyte kilobytes kb kib",
        "megabyte megabytes mb mib",
        "gigabyte gigabytes gb gib",
        "terabyte terabytes tb tib",
        "second seconds sec secs",
        "millisecond milliseconds ms",
        "minute minutes mins",
        "hour hours hr hrs",
        "day days",
        "week weeks",
        "month months",
        "year years",
        "percent % percentage",
        "dollar dollars usd $",
        "euro euros eur €",
        "yen jpy ¥",
        "watt watts",
        "volt volts",
    )
    for form in forms.split()
}
# What does not work, without a negation.
FAILURES = frozenset(
    (
        "unable fail fails failed failing failure unsuccessful broken declined decline denied rejected reject refused "
        "missing stuck impossible error wrong incorrect lost pending issue issues problem problems trouble blocked"
    ).split()
)
# Words that shape a sentence. "in", "on", "with" and the like are not compared by themselves.
SILENT = frozenset(
    (
        "a an the until till is are was were be been being am do does did doing done to of in on at for from by with and or it "
        "its it's this that these those you your yours i i'm i've i'd i'll me my mine we our us they them their he him his she "
        "her hers as if so then than there here will would can could should may might must shall have has had having just "
        "please also who whom whose what what's one which when where how why not no n't don't doesn't didn't isn't aren't "
        "can't cannot won't into onto about any some very really too now still yet already ever up out off over under "
        "between through via per each every all thanks thank hi hello hey sir madam ok okay well because since while but "
        "actually currently possible whats hows wheres whos whens im ive id thats its youre theyre lets gonna kindly maybe "
        "perhaps basically um uh hmm anyway excuse sorry"
    ).split()
)
# Words that ask or act without saying about what: any of them stands for any other.
REQUESTS = frozenset(
    (
        "get gets getting got obtain obtains receive need needs needed want wants wanted like wish tell show give explain "
        "help helps know find see check look let make way ways method steps able allow describe provide use using go "
        "going try trying tried happen happens happened reason mean means work someone something anything thing things "
        "information info details question wonder wondering order request ask say said seem seems think believe sure"
    ).split()
)
