"""Secrets that are known by the words before them: assignments, headers, commands, sentences. Knows words, not issuers.

A password assigned by name needs little more than not being a placeholder; a token must look drawn at random, and a hash
or an id on its own is none. Unquoted code, and a password that is a plain word in a sentence, stay.
"""

import base64
import binascii
import math
import re
from collections import Counter

from shammah_data.secret_shapes import MARK

_PASSWORD = (
    r"password|passwd|passphrase|passcode|passwort|kennwort|mot de passe|contrase(?:ñ|n)a|senha|wachtwoord|has[łl]o|"
    r"[şs]ifre|lösenord|passord|salasana|пароль|密码|密碼|パスワード|비밀번호|"
    r"(?<![A-Za-z])(?:pwd|pass|pw)(?![A-Za-z])|(?<=[a-z])(?-i:Pass|Pwd)(?![a-z])"
)
_TOKEN = (
    r"secret|token|(?:api|access|auth|account|private|app|application|encryption|decryption|master|sign|signing|licen[cs]e|"
    r"service|shared|storage|subscription|client|server|admin|deploy|webhook|session|jwt|hmac|host)[ _-]?key|"
    r"(?-i:_KEY)|credential|creds|bearer|authorization"
)
# Every alternative above holds one of these in lower case.
_PARTS = (
    *("pass", "pwd", "pw", "secret", "token", "key", "cred", "bearer", "authorization", "kennwort", "contrase", "senha"),
    *("wachtwoord", "hasło", "haslo", "ifre", "lösenord", "salasana", "пароль", "密码", "密碼", "パスワード", "비밀번호"),
)
_PART = re.compile("|".join(map(re.escape, _PARTS)))
# How far before and after such a part a name can reach.
_REACH = 24
_TELLING = re.compile(rf"(?P<password>{_PASSWORD})|(?P<token>{_TOKEN})", re.IGNORECASE)
# Between a name and its value: an assignment, a JSON member, a header, a table cell, "is"; in a URL's query too.
_SIGN = re.compile(
    r"(?P<rest>[\w-]{0,40}?)(?P<closed>\\{0,3}[\"'`]|\*\*|\])?"
    r"(?P<about>[ \t]{1,3}(?:for|of|to|on|für|vom|von|zum|der|de|del|della|pour|do|da|для|от)[ \t][^\n.:=,;!?\"]{1,40}?)?"
    r"[ \t]{0,20}(?P<sign>:[ \t]?[&\w.\[\]<>]{1,24}[ \t]=(?![=>])|:=|=>|[=!]==?|=|->|:|：|\||>|,|\("
    r"|(?<=[ \t])(?:(?:is|was|has been)[ \t](?:now|(?:changed|set|reset)[ \t]to)|is|was|"
    r"to|ist|lautet|war|est|es|jest|är|er|è|é)(?=[ \t])|是|は|(?(about)(?!)|(?<=[ \t]))(?=[^\s:=|,>-]))"
    r"(?:\*\*)?[ \t]{0,20}(?P<scheme>(?:bearer|basic|token|apikey)[ \t]+)?",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"(?:[@bBrRuL](?=[\"']))?(?:(?P<quote>\\{0,3}[\"'`])(?P<quoted>(?:(?!(?P=quote))(?:\\.|[^\n\\])){1,200})(?P=quote)"
    r"|[“„«‘](?P<smart>[^”“»’\n]{3,200})[”“»’]|(?:\*\*)?(?P<bare>[^\s\"'`“”]{3,400}))"
)
# Where an unquoted value ends before the next blank: at the next member, a closing tag, a written line end.
_BARE_END = re.compile(
    r"[;&,](?=[\w. -]{1,30}=)|</|\\[nrt](?![A-Za-z0-9]{0,2}$)|[|]|"
    r"[。，！？；、][^\n]*|[\u3040-\u9fff](?<=[!-~].)|[.,;:)\]}>*]+$"
)
# What a name's further words make of it: `token_type` or `password_file` hold no secret.
_NOT_A_SECRET = re.compile(
    r"(?<![a-z])(?:ids?|name|type|url|uri|endpoint|file|path|count|limit|length|len|size|min|max|ttl|age|expir\w*|hash\w*|"
    r"digest|arn|ref\w*|field|label|policy|version|prefix|suffix|index|format|header|placeholder|required|reset|strength|"
    r"public|publishable|primary|foreign|audience|alias|algorithm|method|manager|store|provider|hint|error|message)(?![a-z])",
    re.IGNORECASE,
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STRONG = re.compile(r"secret|(?:api|access|private|encryption|master|signing)[ _-]?key|_KEY|authorization", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"\$[{(A-Za-z_]\w*$|\$[{(]|\$\{|%[({]|%[a-z]$|%\w+%$|\{\{|\{\w*\}|[<\[(][\w .:-]+[>\])]|\*{3}|\.{3}|…|x{4,}|•|!vault|!ref|"
    r"(?:your|my|the|some)[-_ ]|\S{0,40}?(?:[-_ ]here|example\b)|(?:change|replace|insert|enter|fill|put|add|set|use|see|type)"
    r"[-_ ]?(?:me|it|this|with|your|you|in|here|the)|placeholder|redacted|hidden|todo|tbd|none\b|null\b|nil\b|undefined|true\b|"
    r"false\b|os\.|env\b|env[.(\[]|getenv|process\.|config[.(\[]|settings[.(\[]|args\.|self\.|this\.|string\b|str\b|text\b|"
    r"varchar|char\b|required\b|optional\b|nullable\b|input\(|/?\^[(\[]|\S{0,40}?path/to|Secret(?:Str|Key)\b|int\b|any\b|bool\b|disabled\b|yes\b",
    re.IGNORECASE,
)
_NAME = r"[A-Za-z_$]+(?:2|16|32|64|256|512)?[A-Za-z_$]*"
_CODE = re.compile(
    rf"&?{_NAME}(?:(?:\?\.|\.|->|::){_NAME})+\d?|{_NAME}(?:(?:\?\.|\.|->|::){_NAME})*[(\[].*|[a-z]+(?:_[a-z]+)+\d?|[({{\[\\/].*"
)
_PATH = re.compile(
    r"(?:~|\.{1,2}|[A-Za-z]:)?[/\\][a-z.][\w.-]*[/\\].*|[a-z+]{2,12}://.*|[\w./-]*\.(?:key|pem|json|ya?ml|txt|py|js|crt|cert?)$"
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PIECES = re.compile(r"(?:(?:[A-Z]?[a-z]{2,}|[A-Z]{2,}|\d{1,3}|[a-z])(?:[-_./]|(?=[A-Z0-9]|$|(?<=\d)[a-z])))+")
_ALGORITHM = re.compile(r"(?:sha|md|base|utf|aes|rsa|argon|pbkdf|oauth)-?\d{1,3}(?:[-_/].*)?", re.IGNORECASE)
_SYMBOLS = frozenset("!@#$%^&*+=~?_")

# Commands, SQL and addresses that say by their place what the password is.
_PLACES = tuple(
    (literal, re.compile(pattern, re.IGNORECASE))
    for literal, pattern in (
        ("://", r"(?P<keep>://[^\s:/\"'<>`]{0,128}:)(?P<value>(?!\d{1,5}/)(?:[^\s\"'<>`/]|/(?!/)){1,256})(?=@[\w\[$])"),
        ("://", r"(?P<keep>://)(?P<value>(?=[^@\s/]*\d)(?=[^@\s/]*[a-z])[a-z0-9_-]{20,128})(?=@[a-z0-9\[])"),
        ("@tcp(", r"(?P<keep>\b[\w-]{1,40}:)(?P<value>[^\s\"'`/]{1,128})(?=@tcp\()"),
        ("@unix(", r"(?P<keep>\b[\w-]{1,40}:)(?P<value>[^\s\"'`/]{1,128})(?=@unix\()"),
        ("curl", r"(?P<keep>(?:(?<=\s)-u|--user|--proxy-user)[ =]{0,3}\"[^\s:\"]{0,64}:)(?P<value>[^\"\n]{3,128})(?=\")"),
        ("curl", r"(?P<keep>(?:(?<=\s)-u|--user|--proxy-user)[ =]{0,3}'[^\s:']{0,64}:)(?P<value>[^'\n]{3,128})(?=')"),
        ("curl", r"(?P<keep>(?:(?<=\s)-u|--user|--proxy-user)[ =]{0,3}[^\s:\"'/]{1,64}:)(?P<value>[^\s\"'/][^\s\"']{2,127})"),
        ("mysql", r"(?P<keep>\bmysql\w{0,10}[^\n|;]{0,200}?\s-p[\"']?)(?P<value>[^\s\"'<>-][^\s\"']{2,127})"),
        ("sshpass", r"(?P<keep>\bsshpass\s{1,9}-p\s{0,9}[\"']?)(?P<value>[^\s\"']{3,128})"),
        ("docker login", r"(?P<keep>\bdocker login[^\n|;]{0,200}?\s-p\s{1,9}[\"']?)(?P<value>[^\s\"'-][^\s\"']{2,127})"),
        ("redis-cli", r"(?P<keep>\bredis-cli[^\n|;]{0,200}?\s-a\s{1,9}[\"']?)(?P<value>[^\s\"'-][^\s\"']{2,127})"),
        ("openssl", r"(?P<keep>\s-pass(?:in|out)?\s{1,9}[\"']?pass:)(?P<value>[^\s\"']{3,128})"),
        (
            "identified",
            r"(?P<keep>\bidentified\s{1,9}(?:with\s{1,9}[\w\"']{1,40}\s{1,9})?by\s{1,9}')(?P<value>(?:[^'\n\\]|''|\\.){3,128})(?=')",
        ),
        ("password", r"(?P<keep>\b(?-i:PASSWORD)\s{0,9}\(?\s{0,9}')(?P<value>(?:[^'\n\\]|''|\\.){3,128})(?=')"),
        ("login", r"(?P<keep>\blogin\s{1,9}\S{1,64}\s{1,9}password\s{1,9})(?P<value>\S{3,128})"),
        ("password", r"(?P<keep>\")(?P<value>[^\"\n ]{4,128})(?=\"[ \t]{0,9}[=!]==?[ \t]{0,9}[\w.]{0,40}password)"),
        ("value=", r"(?P<keep>=\"[\w.:-]{0,40}(?:password|passwd|pwd|secret)\"\s{1,9}value=\")(?P<value>[^\"\n]{3,200})(?=\")"),
    )
)
_CANDIDATE = re.compile(r"(?<![\w/.+-])[A-Za-z0-9_+/-]{20,400}={0,2}(?![A-Za-z0-9_/+=-]|\.\w)")
# A hash that a sentence about tokens mentions is none.
_HASH_BEFORE = re.compile(
    r"commit|\bsha|hash|md5|digest|checksum|revision|\brev\b|fingerprint|integrity|etag|\bh1:|public|\bids?\b|uuid|index|"
    r"version|\bkey [0-9A-F]|0x$|//|\bat\b|ssh-|block|transaction|address",
    re.IGNORECASE,
)
_MARKED = re.compile(r"\[secret:[\w-]*\]")
_OWN_SIGNS = frozenset("=:：是は")
_NEAR, _LONGEST_PASSWORD = 48, 200
# What nearly every draw of such a length reaches, of letters and digits and of hexadecimal ones alone.
_RANDOM_BITS, _RANDOM_HEX_BITS = 3.4, 2.9
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")


def mark_named(text: str) -> str:
    """The text with each value that its name, its place in a command or the words before it call a secret replaced."""
    lowered = text.lower()
    for literal, pattern in _PLACES:
        if literal in lowered:
            text = pattern.sub(_placed, text)
    if _PART.search(lowered) and _next_name(text, text.lower(), 0):
        text = _mark_assigned(text)
        text = _mark_random(text)
    return text


def _placed(match: re.Match[str]) -> str:
    value = match["value"]
    user = match["keep"].rstrip(":").rpartition("/")[2].rpartition(" ")[2]
    generic = value.lower() in {"password", "passwd", "pass", "pwd", "token"} and re.search("user|someone|name", user.lower())
    if generic or "[secret:" in value or _PLACEHOLDER.match(value) or value.lower() == "test":
        return match[0]
    in_url = match["keep"].startswith("://")
    return match["keep"] + MARK.format("url-password" if in_url else "password")


def _next_name(text: str, lowered: str, start: int) -> re.Match[str] | None:
    """The first telling name from `start` on: looked for around the parts of names only, for that costs a tenth."""
    if len(lowered) != len(text):  # a letter that is two in lower case: places do not correspond
        return _TELLING.search(text, start)
    at = start
    while (part := _PART.search(lowered, at)) is not None:
        name = _TELLING.search(text, max(start, part.start() - _REACH), part.end() + _REACH)
        if name is not None:
            return name
        at = part.end()
    return None


def _mark_assigned(text: str) -> str:
    parts, at, start = [], 0, 0
    lowered = text.lower()
    while (name := _next_name(text, lowered, start)) is not None:
        start = name.end()
        sign = _SIGN.match(text, start)
        value = _VALUE.match(text, sign.end()) if sign else None
        if sign is None or value is None or _in_mark(text, name.start()):
            continue
        group = value.lastgroup if value.lastgroup != "quote" else "quoted"
        assert group is not None
        from_, to = value.span(group)
        if group == "bare":
            # A name with a value of its own; read on there, for texts of many names would take seconds.
            own = _TELLING.match(text, from_)
            if own is not None and text[own.end() : own.end() + 1] in _OWN_SIGNS:
                continue
            end = _BARE_END.search(text[from_:to])
            to = from_ + end.start() if end else to
        kind = _kind(text, name, sign, text[from_:to], group, to)
        if kind is not None:
            parts += [text[at:from_], MARK.format(kind)]
            at = start = to
    return "".join([*parts, text[at:]])


def _kind(text: str, name: re.Match[str], sign: re.Match[str], value: str, group: str, end: int) -> str | None:
    """What the value of this name is, or nothing."""
    before = re.search(r"[\w-]*$", text[max(0, name.start() - 40) : name.start()])
    identifier = (before[0] if before else "") + name[0] + sign["rest"]
    around = _HUMP.sub("_", identifier.replace(name[0], "_", 1))
    bare = group == "bare"
    if name["password"] is not None and len(value) > _LONGEST_PASSWORD:
        return None
    if len(value) < 4 or "[secret:" in value or _NOT_A_SECRET.search(around) or _PLACEHOLDER.match(value):
        return None
    said = sign["sign"].lower()
    flag = identifier.startswith("--") or (identifier.startswith("-") and not bare)
    if said == "" and not (flag or (not bare and name["password"] is not None and not value.isalpha() and " " not in value)):
        return None
    if said == ">" and not text.startswith("</", end):
        return None
    if said == "|" and not re.search(r"\|[ *]{0,9}[\w -]{0,40}$", text[max(0, name.start() - 60) : name.start()]):
        return None
    if said == "," and (bare or not sign["closed"]):
        return None
    # NAME=value as a shell or an .env file has it: no code, no sentence.
    shell = bare and said == "=" and identifier.isupper() and text[sign.end("sign") - 1 : sign.end("sign") + 1].strip() != "="
    # secretsmanager, tokenizer: the name goes on as another word.
    if (
        re.match(r"(?!key|access|value|string|code)s?[a-z]{2,}", sign["rest"])
        or "arn:" in text[max(0, name.start() - 80) : name.start()]
    ):
        return None
    if said == "(" and (bare or not identifier.lower().startswith(("set", "with", "use"))):
        return None
    code = bare and not shell and (_CODE.fullmatch(value) is not None or text[end : end + 1] in {"(", "["})
    itself = bare and not flag and value.isidentifier() and re.search(rf"{re.escape(name[0])}\w?$", value, re.IGNORECASE)
    if (
        code
        or (itself and not shell)
        or (bare and _PATH.fullmatch(value))
        or (not shell and re.fullmatch(r"[A-Z]+\d?\d?(?::[A-Z]*\d*)?", value))
    ):
        return None
    if name["password"] is not None:
        return "password" if said != "," and _is_password(text, name, sign, value, group, end, shell or flag) else None
    return "token" if _is_token(name, sign, value, bare, shell) else None


def _is_password(text: str, name: re.Match[str], sign: re.Match[str], value: str, group: str, end: int, given: bool) -> bool:
    said = sign["sign"].lower()
    if _TELLING.fullmatch(value) or (" " in value and (value[0].isupper() or _TELLING.search(value))):
        return False
    plain = value.isalpha()
    sentence = said not in {"=", ":=", "=>", "->", "==", "===", "!=", "!==", ">", "(", ""} and not said.endswith("=")
    if group != "bare":
        return not (plain and (said.isalpha() or said == "|")) and not (said.isalpha() and " " in value)
    if given:
        return not plain or said == "=" or text[end : end + 2] == " -"
    if value.isdigit():
        return not sentence or said == ":"
    if plain and is_random(value):
        return True
    if plain:
        # A login before it makes a word on the password's line the password.
        line = said == ":" and text[end : end + 1] in {"", "\n", "\r"} and value.isascii()
        login = re.search(
            r"(?:^|\n)[ \t-]*(?:user\w*|login|e-?mail)[ \t]*:[^\n]*\n[ \t-]*\w*$",
            text[max(0, name.start() - 120) : name.start()],
        )
        return line and login is not None
    return _written_as_password(value, sentence)


def _written_as_password(value: str, sentence: bool) -> bool:
    """Whether an unquoted value is more than words: letters with digits, or a symbol in it."""
    if _ALGORITHM.fullmatch(value) and sentence:
        return False
    if re.fullmatch(
        r"[\d.,:/-]+|\d{1,3}(?:st|nd|rd|th|x|d|h|s|ms|kb|mb|m)?(?:-[a-z]+)*|v?\d+(?:\.\d+)+(?:-[a-z][\w.]*)?", value
    ):
        return value.isdigit()
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    if sentence and re.fullmatch(r"[A-Za-z'’]+(?:[-/'’.][A-Za-z'’]+)*", value):
        return False
    return mixed or any(c in _SYMBOLS for c in value[:-1]) or (not sentence and not value.isidentifier())


def _is_token(name: re.Match[str], sign: re.Match[str], value: str, bare: bool, shell: bool) -> bool:
    strong = _STRONG.search(name[0]) is not None or "auth" in name.string[max(0, name.start() - 6) : name.start()].lower()
    if (sign["scheme"] or "").strip().lower() == "basic" and _is_basic(value):
        return True
    if _UUID.fullmatch(value):
        return strong and not sign["sign"].isalpha() and sign["sign"] != ""
    if _PATH.fullmatch(value) or _ADDRESS.fullmatch(value):
        return False
    if is_random(value.removeprefix("base64:")):
        return True
    if not strong or _worded(value) or not value.isascii() or " " in value or sign["sign"].isalpha():
        return False
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return len(value) >= 8 and mixed and (not bare or shell or sign["sign"] in {"=", ":"})


def _is_basic(value: str) -> bool:
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False


def _mark_random(text: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        before = _MARKED.sub("", text[max(0, match.start() - _NEAR) : match.start()])
        told = None
        for word in _TELLING.finditer(before):
            told = word if len(word[0]) > len("pass") else told
        if told is None or _HASH_BEFORE.search(before[max(0, told.start() - 12) :]):
            return match[0]
        between = before[told.end() :]
        if "\n" in between and not re.fullmatch(r"[^\n:]*:\**\s*(?:```\w*\s*|[-*>`] ?)?", between):
            return match[0]
        value = match[0]
        random = (
            is_random(value)
            and not _UUID.fullmatch(value)
            and not _PATH.fullmatch(value)
            and not value.startswith("AAAA")
            and not _ADDRESS.fullmatch(value)
        )
        return MARK.format("token") if random else value

    return _CANDIDATE.sub(replaced, text)


def _in_mark(text: str, at: int) -> bool:
    begun = text.rfind("[secret:", max(0, at - 40), at + 9)
    return begun >= 0 and "]" not in text[begun:at]


def _worded(value: str) -> bool:
    """Whether a token is put together of words, as names in code are."""
    letters = [c for c in value.lower() if c.isalpha()]
    if value.isalpha() and (value.islower() or value.isupper()):
        return True
    vowels = sum(c in "aeiouy" for c in letters)
    few_digits = sum(c.isdigit() for c in value) <= max(1, 0.12 * len(value))
    return few_digits and vowels >= 0.28 * len(letters) and _PIECES.fullmatch(value) is not None


def is_random(token: str) -> bool:
    """Whether a token looks drawn rather than written: long, of letters and digits, and no symbol much more common."""
    if len(token) < 12 or " " in token or not any(c.isalpha() for c in token) or not token.isascii() or _worded(token):
        return False
    if not any(c.isdigit() for c in token) and (len(token) < 20 or "." in token):
        return False
    counts = Counter(token)
    entropy = -sum(n / len(token) * math.log2(n / len(token)) for n in counts.values())
    bits = _RANDOM_HEX_BITS if _HEX.fullmatch(token) else _RANDOM_BITS
    return entropy >= min(bits, 0.8 * math.log2(len(token)))
