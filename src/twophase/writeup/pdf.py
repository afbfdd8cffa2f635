"""The page as PDF, set by Typst: its HTML becomes calls of what `paper/replication.typ` defines."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from twophase.store.artifacts import sha256, whole_file
from twophase.store.code import code_digest
from twophase.store.paths import digest
from twophase.writeup.page import NOTEBOOK, PAGE

LOOKS = Path("paper/replication.typ")
PDF = Path("paper/replication.pdf")
# What Typst has in place of a tag and of its end. Tags that are not here leave their content.
TAGS = {
    "h1": ("#heading(level: 1, outlined: false)[", "]"),
    "h2": ("#heading(level: 2)[", "]"),
    "h3": ("#heading(level: 3)[", "]"),
    "p": ("#par[", "]"),
    "summary": ("#par[", "]"),
    "strong": ("#strong[", "]"),
    "b": ("#strong[", "]"),
    "em": ("#emph[", "]"),
    "ul": ("#list(", ")"),
    "ol": ("#enum(", ")"),
    "li": ("[", "],"),
    "table": ("#grid-of(", ")"),
    "tr": ("(", "),"),
    "th": ("[", "],"),
    "td": ("[", "],"),
    "code": ("#raw(", ")"),
    "br": ("#linebreak()", ""),
}
# A figure as the notebook has it. In the page, names within it have lost their capitals, which HTML
# does not need and SVG does.
FIGURE = re.compile(r'<div class="figure" role="img" aria-label="([^"]*)">(<svg.*?</svg>)', re.S)
IN_PAGE = re.compile(
    r'<div aria-label="([^"]*)" class="figure" role="img">.*?</svg>\s*</div>', re.S
)


def made_by() -> str:
    """What the PDF is made by; it stands in the file."""
    return f"made by {digest([sha256(PAGE), sha256(LOOKS), code_digest('writeup.pdf')])[:8]}"


def current() -> bool:
    """Whether the PDF that lies there is of the page that lies there; dates do not count."""
    return PAGE.exists() and PDF.exists() and made_by().encode() in PDF.read_bytes()


def build() -> None:
    """Set the page. Asks nothing of the network, takes no font of the machine, writes no date."""
    import typst

    shown = PAGE.read_text(encoding="utf-8")
    title = html.unescape(re.search(r"<title>(.*?)</title>", shown, re.S)[1])
    source = (
        f"{LOOKS.read_text(encoding='utf-8')}\n"
        f"#show: page-of.with({_string(title)}, {_string(made_by())})\n{markup(shown, drawn())}"
    )
    with whole_file(PDF) as temporary:
        temporary.write_bytes(
            typst.compile(source.encode(), format="pdf", ignore_system_fonts=True)
        )


def markup(shown: str, drawings: dict[str, str]) -> str:
    """What the page shows, in Typst's markup; `drawings` are its figures as SVG, by their label."""
    main = re.search(r"<main>(.*)</main>", shown, re.S)[1]
    reader = _Reader()
    for number, part in enumerate(IN_PAGE.split(main)):
        if number % 2 == 0:
            reader.feed(part)
        else:
            drawing = drawings[part]
            width = re.search(r'width="([\d.]+pt)"', drawing)[1]
            label = html.unescape(part)
            reader.said.append(f"#drawing({width}, {_string(label)}, {_string(drawing)})\n")
    reader.close()
    # The contents come behind the first section, the abstract.
    heading = "#heading(level: 2)"
    before, abstract, *rest = "".join(reader.said).split(heading)
    return heading.join([before, f"{abstract}#contents\n", *rest])


def drawn() -> dict[str, str]:
    """The page's figures as SVG, by their label, from the notebook."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    outputs = [each for cell in notebook["cells"] for each in cell.get("outputs", ())]
    texts = ("".join(each.get("data", {}).get("text/html", "")) for each in outputs)
    return {label: svg for text in texts for label, svg in FIGURE.findall(text)}


class _Reader(HTMLParser):
    """Collects in `said` what Typst has for each tag and text."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.open: list[tuple[str, str]] = []  # tags, with what ends them

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        begin, end = TAGS.get(tag, ("", ""))
        kind = (attributes.get("class") or "").removeprefix("verdict ")
        if tag == "span" or kind == "caption":
            begin, end = f"#kind({_string(kind)})[{begin}", f"{end}]"
        elif tag == "a":
            begin, end = f"#link({_string(attributes['href'])})[", "]"
        elif tag == "code" and self.open[-1][0] == "pre":
            begin = "#raw(block: true, "
        self.said.append(begin)
        if tag != "br":
            self.open.append((tag, end))

    def handle_endtag(self, tag: str) -> None:
        if tag != "br":
            self.said.append(self.open.pop()[1])

    def handle_data(self, data: str) -> None:
        if data.isspace():
            self.said.append(" ")
        elif self.open[-1][0] == "code":
            self.said.append(_string(data.rstrip()))
        else:
            self.said.append("#" + _string(re.sub(r"[ \n]+", " ", data)))


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
