"""Denials, language by language: what one text denies and the other says is found, and nothing else is."""

import pytest

from shammah_data.denial import denied, unheard
from shammah_data.guards import conflict
from shammah_data.judge import judge

# One says what the other denies.
CONTRADICT = [
    ("en", "The shop opens on Sunday.", "The shop does not open on Sunday."),
    ("en", "There is a problem with the server.", "There is no problem with the server."),
    ("en", "It is a problem if you come later.", "It is no problem if you come later."),
    ("en", "Is it open on Sunday? No.", "It is open on Sunday."),
    ("de", "Der Laden öffnet sonntags.", "Nein, der Laden öffnet sonntags nicht."),
    ("de", "Es gibt ein Problem mit dem Server.", "Es gibt kein Problem mit dem Server."),
    ("de", "Es ist ein Problem, wenn Sie später kommen.", "Es ist kein Problem, wenn Sie später kommen."),
    ("de", "Am Eingang gibt es Karten.", "Am Eingang gibt es keine Karten."),
    ("fr", "Le magasin est ouvert le dimanche.", "Le magasin n'est pas ouvert le dimanche."),
    ("es", "Hay entradas en la puerta.", "No hay entradas en la puerta."),
    ("es", "Se puede entrar los domingos.", "Nadie puede entrar los domingos."),
    ("es", "Hay entrada en la puerta.", "No hay ninguna entrada en la puerta."),
    ("nl", "De winkel is op zondag open.", "De winkel is op zondag niet open."),
    ("nl", "Er zijn kaarten bij de ingang.", "Er zijn geen kaarten bij de ingang."),
    ("nl", "Het is een probleem als u later komt.", "Het is geen probleem als u later komt."),
    ("nl", "De winkel opent op zondag.", "De winkel opent nooit op zondag."),
    ("it", "Il negozio è aperto la domenica.", "Il negozio non è aperto la domenica."),
    ("it", "Puoi pagare con carta.", "Non puoi pagare con carta."),
    ("it", "Il negozio apre la domenica.", "La domenica il negozio non apre mai."),
    ("pt", "A loja abre aos domingos.", "A loja não abre aos domingos."),
    ("pt", "Pode pagar com cartão.", "Não pode pagar com cartão."),
    ("pt", "A loja abre no domingo.", "No domingo a loja não abre."),
    ("zh", "您可以在应用中看到退款。", "在应用中您看不到退款。"),
    ("zh", "您可以在应用中看到退款。", "退款您在应用中不可以看到。"),
    ("zh", "周日商店开门。", "商店在周日是不开门的。"),
    ("zh", "您可以退款。", "退款是不可以的。"),
    ("zh", "可以退款。", "无法退款。"),
    ("zh", "可以退款。", "退款不行。"),
    ("zh", "需要预约。", "无需预约。"),
    ("zh", "已收到退款。", "未收到退款。"),
]
# Nothing that the one says is denied by the other, whatever looks like it.
AGREE = [
    ("en", "No problem, the shop opens on Sunday.", "The shop opens on Sunday."),
    ("en", "The office is at no. 5 in the main street.", "The office is at number 5 in the main street."),
    ("en", "Take bus no. 12 to the station.", "To the station, take bus number 12."),
    ("en", "It is a non-smoking room with a view.", "It is a room with a view, non-smoking."),
    ("en", "We replace non working lamps daily.", "We replace lamps daily, non working ones."),
    ("en", "The club is a non profit of il Duomo.", "The club is a non-profit of il Duomo."),
    ("en", "Trains go non stop to Rome.", "Non stop trains go to Rome."),
    ("de", "Kein Problem, der Laden ist sonntags geöffnet.", "Der Laden ist sonntags geöffnet."),
    ("de", "Das ist gar kein Problem, der Laden öffnet sonntags.", "Der Laden öffnet sonntags."),
    ("de", "Der Laden ist sonntags geschlossen.", "Sonntags ist der Laden nicht geöffnet."),
    ("fr", "Pas de problème, le magasin est ouvert le dimanche.", "Le magasin est ouvert le dimanche."),
    ("es", "No hay problema, la tienda abre los domingos.", "La tienda abre los domingos."),
    ("es", "La tienda abre los domingos, ¿no?", "¿La tienda abre los domingos?"),
    ("nl", "Geen probleem, de winkel is op zondag open.", "De winkel is op zondag open."),
    ("nl", "De winkel is op zondag gesloten.", "Op zondag is de winkel niet open."),
    ("nl", "De winkel is niet alleen op maandag, ook op zondag open.", "De winkel is op maandag, ook op zondag open."),
    ("it", "Nessun problema, il negozio apre la domenica.", "Il negozio apre la domenica."),
    ("it", "Il negozio è chiuso la domenica.", "La domenica il negozio non è aperto."),
    ("pt", "A loja abre no domingo.", "No domingo a loja abre."),
    ("pt", "A loja abre no domingo.", "A loja abre aos domingos."),
    ("pt", "No centro há um banco aberto.", "Há um banco aberto no centro."),
    ("pt", "Não há problema, a loja abre aos domingos.", "A loja abre aos domingos."),
    ("pt", "A loja está fechada aos domingos.", "A loja não está aberta aos domingos."),
    ("zh", "商店周日不开门。", "周日商店是不开门的。"),
    ("zh", "没问题，商店周日开门。", "商店周日开门。"),
    ("zh", "退款不到5天。", "5天退款。"),
    ("zh", "不超过5天。", "最多5天。"),
]


@pytest.mark.parametrize(("language", "one", "other"), CONTRADICT)
def test_what_one_denies_and_the_other_says_is_found(language: str, one: str, other: str) -> None:
    assert denied(one, other) or unheard(one, other)
    assert denied(other, one) or unheard(other, one)
    for reference, answer in ((one, other), (other, one)):
        assert judge(reference, answer).reason == "one of the two is negated"


@pytest.mark.parametrize(("language", "one", "other"), AGREE)
def test_what_nobody_denies_is_no_denial(language: str, one: str, other: str) -> None:
    assert not denied(one, other)
    assert not unheard(one, other)
    for reference, answer in ((one, other), (other, one)):
        assert judge(reference, answer).reason != "one of the two is negated"
        # Chinese in another order is too far apart by its words.
        assert language == "zh" or judge(reference, answer)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is there a problem?", "Is there no problem?"),
        ("Is de winkel op zondag open?", "Is de winkel op zondag niet open?"),
        ("Het is een probleem als ik later kom?", "Het is geen probleem als ik later kom?"),
        ("Posso pagare con la carta?", "Non posso pagare con la carta?"),
        ("A loja abre aos domingos?", "A loja não abre aos domingos?"),
        ("您可以在应用中看到退款吗", "在应用中您看不到退款吗"),
        ("可以退款吗", "退款是不可以的吗"),
    ],
)
def test_a_question_with_a_denial_is_another_question(one: str, other: str) -> None:
    for pair in ((one, other), (other, one)):
        found = conflict(*pair)
        assert found is not None
        assert found.kind == "negation"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("No problem, when does the shop open?", "When does the shop open?"),
        ("Kein Problem, öffnet der Laden sonntags?", "Öffnet der Laden sonntags?"),
        ("A loja abre no domingo?", "No domingo a loja abre?"),
        ("where is bus no. 12", "where is bus number 12"),
        ("La tienda abre los domingos, ¿no?", "¿La tienda abre los domingos?"),
    ],
)
def test_a_question_without_one_is_the_same(one: str, other: str) -> None:
    assert conflict(one, other) is None
    assert conflict(other, one) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1.50", "It is 1.50.", True),
        ("It costs 1.50 here.", "Here it costs 1.50", True),
        # Alone it may be a version.
        ("3.10", "3.1", False),
        ("Python 3.10 is newer than 3.1.", "Python 3.1 is newer than 3.10.", False),
    ],
)
def test_a_number_with_a_zero_behind_it_is_the_same_in_both(one: str, other: str, same: bool) -> None:
    assert bool(judge(one, other)) is same
