"""Personal data replaced by typed marks where a setting asks for it. Knows written forms, not whose they are.

E-mail addresses, telephone numbers, numbers of payment cards and of bank accounts, each of a stated form. It does not find
names, postal addresses, dates of birth, identity or tax numbers, user names, nor a telephone number of a form that is not
written below: local numbers without an area code, bare runs of digits, extensions, letters in place of digits.
"""

import re

MARK = "[personal:{}]"

# Quoted local parts and letters beyond ASCII are left out; the last label is of letters.
_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9_][\w.+%'-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,59})"
    r"(?![\w@-])",
    re.ASCII,
)
# git@host:path and user:password@host name a machine.
_IN_URL, _PATH_BEHIND = re.compile(r"://[^\s/]{0,64}$"), re.compile(r":[\w~/]")
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?:[ -][A-Z0-9]{4}){2,7}(?:[ -][A-Z0-9]{1,3})?)(?![A-Za-z0-9])"
)
_IBAN_LENGTHS = {
    "AD": 24,
    "AE": 23,
    "AL": 28,
    "AT": 20,
    "AZ": 28,
    "BA": 20,
    "BE": 16,
    "BG": 22,
    "BH": 22,
    "BR": 29,
    "CH": 21,
    "CR": 22,
    "CY": 28,
    "CZ": 24,
    "DE": 22,
    "DK": 18,
    "DO": 28,
    "EE": 20,
    "EG": 29,
    "ES": 24,
    "FI": 18,
    "FO": 18,
    "FR": 27,
    "GB": 22,
    "GE": 22,
    "GI": 23,
    "GL": 18,
    "GR": 27,
    "GT": 28,
    "HR": 21,
    "HU": 28,
    "IE": 22,
    "IL": 23,
    "IQ": 23,
    "IS": 26,
    "IT": 27,
    "JO": 30,
    "KW": 30,
    "KZ": 20,
    "LB": 28,
    "LI": 21,
    "LT": 20,
    "LU": 20,
    "LV": 21,
    "MC": 27,
    "MD": 24,
    "ME": 22,
    "MK": 19,
    "MR": 27,
    "MT": 31,
    "MU": 30,
    "NL": 18,
    "NO": 15,
    "PK": 24,
    "PL": 28,
    "PS": 29,
    "PT": 25,
    "QA": 29,
    "RO": 24,
    "RS": 22,
    "SA": 24,
    "SE": 24,
    "SI": 19,
    "SK": 24,
    "SM": 27,
    "TN": 24,
    "TR": 26,
    "UA": 29,
    "VA": 22,
    "VG": 24,
    "XK": 20,
}
_CARD = re.compile(
    r"(?<![\w.+#/=-])[2-6]"
    r"(?:\d{12,18}|\d{3}(?:([ -])\d{4})(?:\1\d{4}){2}(?:\1\d{1,3})?|\d{3}([ -])\d{6}\2\d{4,5})(?![\w/=-]|\.\d)",
    re.ASCII,
)
_LENGTHS = {"visa": {16, 19}, "sixteen": {16}, "amex": {15}, "diners": {14, 16, 19}, "long": {16, 18, 19}}
# International forms with + or 00; then national ones whose separators and first digits tell them from other numbers.
_PHONE = re.compile(
    r"(?<![\w+./=#%-])(?<!\d[ :*-])(?<![$€£] )(?:"
    r"(?:\+|00(?=[1-9]))[1-9]\d{0,2}(?:[ .-]?\(0?\d{0,4}\))?(?:[ ./-]?\d{2,14}|[ .-]\d){1,6}"
    r"|(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}"
    r"|\(0\d{2,5}\)[ ]?\d{2,4}(?:[ -]?\d{2,4}){1,3}"
    r"|0[1-9](?:[ .-]\d{2}){4}"
    r"|0\d{2,5}(?:/| / | - |-| )\d{3,8}(?:[ -]\d{2,5}){0,3}"
    r"|0[1-9]0?[ -]\d{3,4}[ -]\d{2,4}(?:[ -]\d{2})?"
    r"|[6789]\d{2}[ ]\d{3}[ ]\d{3}"
    r")(?![\w/%=€$£+-]|[.,:]\d| ?[€$£+=]| ?\*(?!\*)| ?\d)",
    re.ASCII,
)
_FEWEST_DIGITS = 9


def redact_personal(text: str) -> str:
    """The text with e-mail addresses, IBANs, card and telephone numbers replaced by `[personal:KIND]`; twice changes nothing.

    An IBAN has its country's length and satisfies mod 97 (ISO 13616), a card number has an issuer's first digits and
    length and satisfies Luhn's check (ISO/IEC 7812). A telephone number is international (`+49 30 1234567`, `0049 …`),
    North American with separators (`(555) 234-5678`), or national with a leading zero or as nine digits in threes as
    written in Germany, Austria, Switzerland, France, Great Britain, the Netherlands, Belgium, Italy, Spain or Poland.
    """
    if "@" in text:
        text = _EMAIL.sub(_email, text)
    if sum(map(text.count, "0123456789")) >= _FEWEST_DIGITS:
        text = _IBAN.sub(_iban, text)
        text = _CARD.sub(_card, text)
        text = _PHONE.sub(_phone, text)
    return text


def _email(match: re.Match[str]) -> str:
    text = match.string
    before = text[max(0, match.start() - 80) : match.start()]
    machine = _IN_URL.search(before) or (match[0].startswith("git@") and _PATH_BEHIND.match(text, match.end()))
    return match[0] if machine or ".." in match[0] else MARK.format("e-mail")


def _iban(match: re.Match[str]) -> str:
    compact = re.sub(r"[ -]", "", match[0])
    length = _IBAN_LENGTHS.get(compact[:2])
    if length is None or len(compact) < length:
        return match[0]
    # A word in capitals may follow the last group.
    end = at = 0
    while end < length:
        end += match[0][at].isalnum()
        at += 1
    turned = compact[4:length] + compact[:4]
    valid = at == len(match[0]) or not match[0][at].isalnum()
    valid = valid and "02" <= compact[2:4] <= "98" and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1
    return MARK.format("iban") + match[0][at:] if valid else match[0]


def _card(match: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", match[0])
    return MARK.format("card") if len(digits) in _lengths(digits) and _luhn(digits) else match[0]


def _lengths(digits: str) -> set[int]:
    """The lengths that numbers with these first digits have; none where no issuer has them."""
    two, three, four = int(digits[:2]), int(digits[:3]), int(digits[:4])
    if digits[0] == "4":
        return _LENGTHS["visa"]
    if 51 <= two <= 55 or 2221 <= four <= 2720 or 2200 <= four <= 2204:
        return _LENGTHS["sixteen"]
    if two in {34, 37}:
        return _LENGTHS["amex"]
    if two in {36, 38, 39} or 300 <= three <= 305:
        return _LENGTHS["diners"]
    if four == 6011 or 644 <= three <= 659 or two == 62 or 3528 <= four <= 3589:
        return {16, 17, 18, 19}
    return _LENGTHS["long"] if two == 50 or 56 <= two <= 58 or two in {63, 67} else set()


def _luhn(digits: str) -> bool:
    doubled = [int(c) * (1 + n % 2) for n, c in enumerate(reversed(digits))]
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0 and len(set(digits)) > 1


def _phone(match: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", match[0])
    return MARK.format("phone") if 8 <= len(digits) <= 15 and len(set(digits)) > 2 else match[0]
