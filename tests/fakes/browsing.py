"""Somebody with a browser that runs no scripts: keeps its cookie, sends forms as browsers do, follows nothing by itself."""

import re
from urllib.parse import urlencode

from fakes.html import Page
from fakes.listening import TOKEN, Answered, Listening


class Visitor:
    """A visitor of one server's page."""

    def __init__(self, server: Listening) -> None:
        self.server = server
        self.cookie = ""
        self.word = ""

    def get(self, path: str, **headers: str) -> Answered:
        """Load a page; its forms' word is kept."""
        answer = self.server.ask("GET", path, headers={**self._cookies(), **headers})
        if found := re.search(r'name="form" value="([^"]+)"', answer.body.decode()):
            self.word = found[1]
        return answer

    def page(self, path: str = "/") -> Page:
        """The same, taken apart; it is there."""
        answer = self.get(path)
        assert answer.status == 200, answer.body.decode()
        return Page(answer.body.decode())

    def post(self, path: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> Answered:
        """Send a form with its word, from a page of this server unless the headers say otherwise."""
        kind = {"content-type": "application/x-www-form-urlencoded", "origin": self.server.url}
        body = urlencode({"form": self.word, **fields}).encode()
        answer = self.server.ask("POST", path, headers={**kind, **self._cookies(), **(headers or {})}, raw=body)
        if given := answer.headers.get("set-cookie"):
            self.cookie = given.partition(";")[0]
        return answer

    def sign_in(self, token: str = TOKEN) -> Answered:
        """Show the token."""
        return self.post("/sign-in", {"token": token})

    def rate(self, exchange: str, rating: str, **fields: str) -> Answered:
        """Press a button of an exchange."""
        return self.post(f"/exchanges/{exchange}/rating", {"rating": rating, **fields})

    def _cookies(self) -> dict[str, str]:
        return {"cookie": self.cookie} if self.cookie else {}
