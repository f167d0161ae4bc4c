"""What may be promised of an exchange that its user has just called right or corrected: will a night learn it, or why not?"""

from shammah_data.refusing import is_refusal


def kept_out(trainable: bool, complete: bool, answer: str, correction: str | None) -> str | None:
    """Why no night will learn from it, in a few words; None where one will. `correction`: the one in force."""
    if not trainable:
        return "it is kept out of training"
    said = answer if correction is None else correction
    if not said.strip():
        return "there is no answer"
    if correction is None and not complete:
        return "the answer is incomplete"
    if is_refusal(said):
        return "it only says that there is no answer"
    return None
