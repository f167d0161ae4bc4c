"""The template tier: complete sentences for greetings, thanks and help. No placeholders, no data, no model."""

from shammah_data.exchange import Attempt
from shammah_data.judge import normalize
from shammah_runtime.proposal import Proposal, Query, declined

_HELLO = "Hello! Ask me anything; what I do not know I pass on to Claude."
_THANKS = "You are welcome."
_BYE = "Goodbye! Type /quit to leave."
_HELP = "Type a question and press Enter. /help lists the commands, and /why explains the last answer."

_ANSWERS = {
    phrase: answer
    for answer, phrases in {
        _HELLO: "hello|hi|hey|hi there|hello there|hey there|good morning|good afternoon|good evening|greetings",
        _THANKS: "thanks|thank you|thanks a lot|thank you very much|many thanks|thx|cheers|great, thanks|ok thanks",
        _BYE: "bye|goodbye|good bye|bye bye|see you|see you later|good night",
        _HELP: "help|help me|what can you do|how does this work",
    }.items()
    for phrase in phrases.split("|")
}


class TemplateTier:
    """Answers when the whole query is one of a few courtesies, and never otherwise."""

    def propose(self, query: Query) -> Proposal:
        """A fixed sentence, or the reason for none."""
        answer = _ANSWERS.get(normalize(query.text).rstrip(",;:) "))
        if answer is None:
            return declined("template", "not a greeting, thanks or a call for help")
        return Proposal(Attempt("template", "accepted", "a courtesy"), text=answer)
