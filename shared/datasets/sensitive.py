"""Keys and personal data in a text, known by their shape and, where they have one, by their check digits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from shared.datasets.scan import finder
from shared.log import SECRET_SHAPE

_HINT_KEY = "Take it out and revoke it: a model may repeat what it was trained on."
_HINT_PERSON = "Take it out or put an invented one there, unless everybody may read it."
_SHOWN_CHARS = 3
_SHORTEST_SECRET = 16  # of letters and digits; a word like sk-learn-style is none

_MORE_SECRETS = re.compile(r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|xox[abprs]-[\w-]{10,}")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_EMAIL = re.compile(r"[\w.%+-]+@((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,})\b")
_PHONE = re.compile(
    r"(?<![\w.+])(?:\+[1-9][\d ().-]{6,20}\d|(?:\(\d{3}\) ?|\d{3}[-. ])[2-9]\d{2}[-. ]\d{4})(?![\w-])"
)
# The countries that number their accounts so, in two halves: see `finder`.
_AD_TO_KZ = (
    "AD|AE|AL|AT|AZ|BA|BE|BG|BH|BI|BR|BY|CH|CR|CY|CZ|DE|DJ|DK|DO|EE|EG|ES|FI|FK|FO|FR|GB|GE|GI|GL|GR|"
    "GT|HN|HR|HU|IE|IL|IQ|IS|IT|JO|KW|KZ"
)
_LB_TO_YE = (
    "LB|LC|LI|LT|LU|LV|LY|MC|MD|ME|MK|MN|MR|MT|MU|NI|NL|NO|OM|PK|PL|PS|PT|QA|RO|RS|RU|SA|SC|SD|SE|SI|"
    "SK|SM|SO|ST|SV|TL|TN|TR|UA|VA|VG|XK|YE"
)
_COUNTRIES = frozenset(f"{_AD_TO_KZ}|{_LB_TO_YE}".split("|"))
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
# The first digits of Mastercard, American Express, Visa, Discover and UnionPay.
_CARD = re.compile(r"(?<![\d.-])(?:2[2-7]|3[47]|4\d|5[1-5]|6[0245])\d\d(?:[ -]?\d){9,15}(?![\d-])")

# Domains that stand for none, and numbers that are kept free for stories.
_NOBODY = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)$", re.IGNORECASE)
_FICTION = re.compile(r"555\D?01\d\d$")

_KEY = "[0-9A-Za-z_-]"
# Whatever the rules below find begins like one of these. How they are put together decides the speed: see
# `finder`.
_KEYS = finder(
    f"sk-{_KEY}{{8}}", f"hf_{_KEY}{{8}}", f"sb_secret_{_KEY}{{8}}", "whsec_", f"AIza{_KEY}{{20}}",
    f"tgp_{_KEY}{{8}}", f"eyJ{_KEY}{{8}}", "AKIA[0-9A-Z]{16}", f"gh[pousr]_{_KEY}{{20}}", "github_pat_",
    "xox[abprs]-", "-----BEGIN", r"[Bb]earer\s+[\w.~+/=-]{16}",
)  # fmt: skip
_ADDRESSES = finder(r"[\w.%+-]@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2}")
_CALLED_ABROAD = finder(r"\+[1-9][0-9 ().-]{6}")
_CALLED_OR_PAID = finder(
    r"[-.) ][2-9][0-9]{2}[-. ][0-9]{4}",
    r"(?:2[2-7]|3[47]|4[0-9]|5[1-5]|6[0245])[0-9]{2}[ -]?[0-9]{4}[ -]?[0-9]{4}",
)
_ACCOUNTS = [finder(f"(?:{half})[0-9]{{2}} ?[0-9A-Z]{{4}} ?[0-9A-Z]{{4}}") for half in (_AD_TO_KZ, _LB_TO_YE)]
BEGINNINGS = (_KEYS, _ADDRESSES, _CALLED_ABROAD, _CALLED_OR_PAID, *_ACCOUNTS)


@dataclass(frozen=True)
class Sensitive:
    """What was found, never in full: its beginning and its length."""

    rule: str
    what: str
    shown: str
    hint: str


def sensitive_in(text: str) -> Iterator[Sensitive]:
    """The first of each rule in the text."""
    for rule, what, hint, search, beginnings in _RULES:
        if not any([begins(text) for begins in beginnings]):
            continue
        if (value := next(search(text), None)) is not None:
            yield Sensitive(rule, what, _shown(value), hint)


def may_be_sensitive(text: bytes | str) -> bool:
    """False when nothing can be found in the text, or in the JSON text that it is: a quick look."""
    return any([begins(text) for begins in BEGINNINGS])


def _shown(value: str) -> str:
    return f"{value[: min(_SHOWN_CHARS, len(value) // 4)]}... ({len(value)} characters)"


def _secrets(text: str) -> Iterator[str]:
    for found in SECRET_SHAPE.finditer(text):
        value = found.group()
        key = value.split()[-1]
        is_cut_out = found.start() > 0 and text[found.start() - 1].isalnum()
        if not is_cut_out and len(key) >= _SHORTEST_SECRET and re.search(r"\d", key):
            yield key
    yield from (found.group() for found in _MORE_SECRETS.finditer(text))
    yield from (found.group() for found in _PRIVATE_KEY.finditer(text))


def _emails(text: str) -> Iterator[str]:
    return (found.group() for found in _EMAIL.finditer(text) if not _NOBODY.search(found.group(1)))


def _phones(text: str) -> Iterator[str]:
    for found in _PHONE.finditer(text):
        value = found.group()
        if 8 <= sum(map(str.isdigit, value)) <= 15 and not _FICTION.search(value):
            yield value


def _ibans(text: str) -> Iterator[str]:
    for found in _IBAN.finditer(text):
        value = found.group().replace(" ", "")
        turned = value[4:] + value[:4]
        if (
            value[:2] in _COUNTRIES
            and 15 <= len(value) <= 34
            and int("".join(str(int(char, 36)) for char in turned)) % 97 == 1
        ):
            yield found.group()


def _cards(text: str) -> Iterator[str]:
    for found in _CARD.finditer(text):
        digits = [int(char) for char in found.group() if char.isdigit()]
        if len(digits) in (13, 15, 16, 19) and len(set(digits)) > 1 and _luhn(digits):
            yield found.group()


def _luhn(digits: list[int]) -> bool:
    """Whether the last digit is the one that ISO/IEC 7812 asks for."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


_Begins = Callable[[bytes | str], bool]
_RULES: tuple[tuple[str, str, str, Callable[[str], Iterator[str]], Sequence[_Begins]], ...] = (
    ("secret", "a key or token", _HINT_KEY, _secrets, [_KEYS]),
    ("email_address", "an e-mail address", _HINT_PERSON, _emails, [_ADDRESSES]),
    ("phone_number", "a phone number", _HINT_PERSON, _phones, [_CALLED_ABROAD, _CALLED_OR_PAID]),
    ("iban", "a bank account", _HINT_PERSON, _ibans, _ACCOUNTS),
    ("card_number", "the number of a credit card", _HINT_PERSON, _cards, [_CALLED_OR_PAID]),
)
