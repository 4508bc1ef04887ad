"""Caveat: a note on the data that limits what a score means, with a headline for a report."""


class Caveat(str):
    """The text of a note; `headline` says the same in a few words."""

    headline: str

    def __new__(cls, text: str, headline: str = "") -> "Caveat":
        caveat = super().__new__(cls, text)
        caveat.headline = headline or text
        return caveat

    def to_dict(self) -> dict[str, str]:
        """The headline and the text, as a run records them."""
        return {"title": self.headline, "text": str(self)}
