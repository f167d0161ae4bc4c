"""Answers that only say that there will be none. Knows English only."""

import re

_REFUSAL = re.compile(
    r"(?:i'?m (?:very |really )?sorry,?(?: but)?|i apologi[sz]e,?(?: but)?|unfortunately,?|as an ai\b[^.,]*,)?\s*"
    r"i(?: am|'m) (?:not able|unable) to (?:help|assist|answer|provide|do|discuss|comply|access|share)\b|"
    r"(?:i'?m (?:very |really )?sorry,?(?: but)?|i apologi[sz]e,?(?: but)?|unfortunately,?|as an ai\b[^.,]*,)?\s*"
    r"i (?:can ?not|can't|won't|will not|must decline to|have to decline to|don't feel comfortable)\s*"
    r"(?:help|assist|answer|provide|do that|discuss|comply|access|share|with that|engage)\b|"
    r"(?:i'?m (?:very |really )?sorry,?(?: but)?|i apologi[sz]e,?(?: but)?|unfortunately,?|as an ai\b[^.,]*,)?\s*"
    r"i (?:do not|don't) (?:currently )?have (?:any )?(?:access to|information (?:about|on))\b"
)


def is_refusal(answer: str) -> bool:
    """Whether an answer only says that there will be none: "I'm sorry, but I can't help with that." """
    return len(answer) < 600 and bool(_REFUSAL.match(" ".join(answer.lower().replace("’", "'").split())))
