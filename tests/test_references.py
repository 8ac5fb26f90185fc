"""Papers are cited as they are: every link to a paper, and every name with a year, has an entry in
nbs/references.bib, every entry is linked, and every chapter ends with where it comes from."""

import ast
import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from test_house import CHAPTERS, LABS, LETTERED, NBS, by_name, cells, section

from lla_course.course.site import bib_addresses, bib_entries

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "nbs" / "references.bib").read_text(encoding="utf-8")
ENTRIES, ADDRESSES = bib_entries(TEXT), bib_addresses(TEXT)
README = (ROOT / "README.md").read_text(encoding="utf-8")

# ---- reading

SKIP = re.compile(r"```.*?```|(`+).*?\1|\$\$.*?\$\$|\$[^$\n]+\$", re.S)
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(((?:\([^\s()]*\)|[^\s()])+)\)")
NAME = r"(?:von |de )?[A-ZÀ-Þ][\w'’-]*[^\W\d_]"
NAMED = re.compile(
    rf"({NAME}(?:, {NAME})*(?:,? (?:and|&) (?:{NAME}|others)| et al\.?)?)(?:, | )\(?((?:18|19|20)\d\d)\b"
)
# what stands before a year and is nobody's name
NOBODY = set(
    "January February March April May June July August September October November December"
    " From In Of Since To Until By After Before Between Around NICE".split()
)


@cache
def prose(path):
    "The Markdown of a notebook without code and formulas."
    return "\n\n".join(SKIP.sub(" ", c["source"]) for c in cells(path, "markdown"))


def surnames(key):
    "Those of an entry's authors, in order; `others` where the list ends early."
    return [author.split(",")[0].strip() for author in ENTRIES[key]["author"].split(" and ")]


def found_in_print(who, year):
    "The entries of the list that a name with a year may mean."
    *named, last = re.split(r",? (?:and|&) |, (?!Jr)", re.sub(r" et al\.?$", " and others", who))
    shortened = last == "others"
    named = named if shortened else [*named, last]
    fits = lambda known: (
        known[: len(named)] == named
        and (shortened and len(known) > len(named) or not shortened and len(known) == len(named))
    )
    return [key for key in ENTRIES if ENTRIES[key]["year"] == year and fits(surnames(key))]


def mentions(text):
    "Names with a year in a text, after its links have been replaced by their words."
    own = lambda m: f" | {m[1]} | " if NAMED.search(m[1]) else m[1]  # a link that says all by itself
    for who, year in NAMED.findall(LINK.sub(own, text)):
        if not set(who.replace(",", "").split()) & NOBODY:
            yield who, year


def is_paper(address):
    return bool(re.match(r"https?://(www\.|dx\.)?(doi|arxiv)\.org/", address))


def complaints(text):
    "What is wrong with the citations of a text."
    links = LINK.findall(text)
    linked, wrong = {ADDRESSES[a] for _, a in links if a in ADDRESSES}, []
    wrong += [f"{a} is not in references.bib" for _, a in links if is_paper(a) and a not in ADDRESSES]
    for who, year in mentions(text):
        if not (keys := found_in_print(who, year)):
            wrong.append(f"{who} {year} has no entry")
        elif not linked & set(keys):
            wrong.append(f"{who} {year} is not linked")
    for words, address in links:
        for who, year in mentions(words):
            if address in ADDRESSES and ADDRESSES[address] not in found_in_print(who, year):
                wrong.append(f"[{who} {year}] leads to {ADDRESSES[address]}")
    return wrong


# ---- the list


def test_the_list_is_in_the_form_that_is_read():
    assert len(ENTRIES) == len(re.findall(r"^@", TEXT, re.M)) > 70
    assert list(ENTRIES) == sorted(ENTRIES, key=lambda key: (key.lower(), key))


@pytest.mark.parametrize("key", ENTRIES)
def test_an_entry_is_whole_and_can_be_found(key):
    entry = ENTRIES[key]
    assert {"author", "title", "year"} <= set(entry)
    plain = unicodedata.normalize("NFKD", surnames(key)[0]).encode("ascii", "ignore").decode()
    assert re.match(re.escape(plain.replace(" ", "")) + entry["year"], key), "the key is surname and year"
    assert set(entry) & {"doi", "eprint", "url", "isbn"}
    assert re.fullmatch(r"10\.\d{4,}/\S+", entry.get("doi", "10.1000/x"))
    assert re.fullmatch(r"https?://\S+", entry.get("url", "https://x"))
    assert len(re.sub(r"\D", "", entry.get("isbn", "9" * 13))) == 13
    if "eprint" in entry:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", entry["eprint"]) and entry["archiveprefix"] == "arXiv"
        assert abs(2000 + int(entry["eprint"][:2]) - int(entry["year"])) <= 2, "arXiv numbers hold their year"


def test_no_work_is_listed_twice():
    titles = [re.sub(r"\W", "", entry["title"]).lower() for entry in ENTRIES.values()]
    assert len(set(titles)) == len(titles)
    marks = [entry[f] for entry in ENTRIES.values() for f in ("doi", "eprint", "url", "isbn") if f in entry]
    assert len(set(marks)) == len(marks)


def test_every_entry_is_linked_in_the_book():
    linked = {ADDRESSES[a] for path in NBS for _, a in LINK.findall(prose(path)) if a in ADDRESSES}
    assert set(ENTRIES) - linked == set()


# ---- the text


@pytest.mark.parametrize("path", NBS, **by_name)
def test_citations_are_those_of_the_list(path):
    assert complaints(prose(path)) == []


def test_the_readme_cites_from_the_list():
    assert complaints(SKIP.sub(" ", README)) == []


@pytest.mark.parametrize("path", NBS, **by_name)
def test_sources_in_docstrings_have_entries(path):
    lost = []
    for cell in cells(path, "code"):
        if cell["source"].lstrip().startswith("%"):
            continue
        for node in ast.walk(ast.parse(cell["source"])):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (said := ast.get_docstring(node)):
                said = " ".join(said.split())
                lost += [m for m in mentions(said) if not found_in_print(*m)]
    assert lost == []


@pytest.mark.parametrize("path", CHAPTERS, **by_name)
def test_nothing_is_told_at_second_hand(path):
    told = r"second[- ]hand|reported(ly)? to say|(is|are) said to|reportedly"
    assert re.findall(rf"[^.]*\b(?:{told})\b[^.]*", prose(path)) == []


@pytest.mark.parametrize("path", CHAPTERS, **by_name)
def test_a_chapter_ends_with_where_it_comes_from(path):
    closing = section(path, "Where this comes from")
    assert closing and re.findall(r"^## .*", prose(path), re.M)[-1] == "## Where this comes from"
    assert any(address in ADDRESSES for _, address in LINK.findall(closing))
    assert re.search(r"\b[Oo]urs?\b|\bown\b", closing), "what is ours"
    points = re.findall(r"^- ", closing, re.M)
    assert points == [] and path in (*LABS, *LETTERED) or 2 <= len(points) <= 6


# ---- the tests' own tools

ZUO = "[Zuo et al. 2025](https://arxiv.org/abs/2510.01450)"


@pytest.mark.parametrize(
    "text",
    [
        "as Smith and Jones (2017) have shown",
        "as Fan (1994) has shown",
        "(Stone, 1982)",  # an entry, but no link
        "Hestenes and Smith ([1952](https://doi.org/10.6028/jres.049.044))",
        "Chan and Golub ([1983](https://doi.org/10.1080/00031305.1983.10483115))",  # one author short
        "[Fan et al. 1993](https://doi.org/10.1214/aos/1176349022)",  # one alone
        "[Zuo et al. 2024](https://arxiv.org/abs/2510.01450)",
        "[Zuo et al. 2026](https://arxiv.org/abs/2510.01450)",
        "[Zhong et al. 2025](https://arxiv.org/abs/2510.01450)",
        "[a paper](https://arxiv.org/abs/2510.99999)",
        "[a paper](https://doi.org/10.1000/nothing)",
        "[a paper](https://arxiv.org/pdf/2510.01450)",
    ],
)
def test_a_made_up_citation_is_found(text):
    assert complaints(text)


@pytest.mark.parametrize(
    "text",
    [
        f"({ZUO}, Section 4)",
        f"{ZUO} say so, and so do Zuo and others (2025).",
        "Yin and Wang ([2025](https://arxiv.org/abs/2501.15857))",
        "@Barrington".replace("@", "[") + " 1989](https://doi.org/10.1016/0022-0000%2889%2990037-8)",
        "The record ends in December 2001. From 1974 to 1979 it is whole, since 1958 nearly.",
        "the week of 1964, 59 of 2284 weeks",
    ],
)
def test_a_good_citation_is_not_complained_of(text):
    assert complaints(text) == []
