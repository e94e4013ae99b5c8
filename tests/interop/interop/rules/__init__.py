"""What each taker demands of a record. A rule raises `Refused`, with the words of whoever refuses."""


class Refused(Exception):
    """A taker would not take the record, or not as what it is."""
