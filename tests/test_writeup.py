"""The write-up: no number typed by hand, one page that needs nothing else, never a stale one."""

import ast
import hashlib
import html
import json
import math
import os
import re
import shutil
import subprocess
import zipfile
from types import SimpleNamespace

import forked
import jupytext
import nbformat
import pytest
from conftest import ENVIRONMENT, ROOT, edit, planned

from twophase.errors import RunError
from twophase.estimators.seeds import Estimate
from twophase.figures import drawing
from twophase.writeup import claims, equality, page, parts, pdf, sources, text, verdicts
from twophase.writeup.archive import archive

# What has a digit in its name and is no number.
NAMES = (
    r"arXiv \d{4}\.\d{5}|arxiv\.org/abs/\d{4}\.\d{5}|\bt[01]\b|Python 3|python3"
    r"|VGG-16|ResNet-20|CIFAR-10"
)
PAGE, PDF = "paper/replication.html", "paper/replication.pdf"


def test_no_number_is_typed_by_hand():
    script = jupytext.read(ROOT / "paper/replication.py")
    told = []
    for cell in script.cells:
        if cell.cell_type == "markdown":
            told.append(cell.source)
        else:
            tree = ast.walk(ast.parse(cell.source))
            told += [str(node.value) for node in tree if isinstance(node, ast.Constant)]
    assert len(told) > 40
    for words in told:
        assert not re.search(r"\d", re.sub(NAMES, "", words)), words


def test_claims_are_grouped_by_what_their_verdicts_share():
    def found(claim, *words):
        told = SimpleNamespace(claim=claim, id=f"is-{claim[0].lower()}")
        source = SimpleNamespace(same_as="")
        return [verdicts.Verdict(told, source, word, "", [], False) for word in words]

    yes, no, silent = verdicts.REPLICATED, verdicts.NOT, verdicts.CANNOT_SAY
    each = [*found("A.", yes, silent), *found("B.", yes, no), *found("C.", no, no)]
    each += [*found("D.", silent), *found("E.", verdicts.PARTLY), *found("F.", yes)]
    assert [re.sub(r"- \*.*\*", "-", line) for line in text.summary(each).splitlines()] == [
        "-",
        "  -: A (1 replicated, 1 cannot say yet)",
        "  -: F (1 replicated)",
        "-",
        "  -: B (1 replicated, 1 not replicated)",
        "  -: E (1 partly)",
        "-",
        "  -: C (2 not replicated)",
        "-",
        "  -: D (1 cannot say yet)",
    ]
    assert "- *Undecided on every network*\n  - **is d**: D" in text.summary(each)
    # The same runs by another name do not count again.
    again = each[-1]._replace(source=SimpleNamespace(same_as="other, net"), word=no)
    assert text.summary([*each, again]) == text.summary(each)


def test_the_code_of_the_page_has_no_study_in_it():
    names = {path.parent.name for path in ROOT.glob("paper/measurements/*/provenance.json")}
    names |= {"digits", "cifar10"}
    for file in [ROOT / "paper/replication.py", *(ROOT / "src/twophase/writeup").glob("*.py")]:
        code = ast.walk(ast.parse(file.read_text()))
        texts = {node.value for node in code if isinstance(node, ast.Constant)}
        assert not names & texts, file


@pytest.fixture(scope="module")
def published():
    """The networks of all published studies."""
    return sources.sources(ROOT / "paper/measurements")


def test_the_matrix_has_a_row_for_each_network_that_is_judged(published):
    found = verdicts.verdicts(claims.load(ROOT / "paper/claims.yaml"), published)
    found = [v for v in found if v.claim.kind != "figure"]
    words = [[v.word for v in found if v.source is source] for source in published]
    judged = [row for row in words if set(row) != {verdicts.CANNOT_SAY}]
    assert 0 < len(judged) < len(words)
    rows, silent = text.matrix(found, published).split("</table>")
    shown = re.findall(r'class="verdict [\w-]+" title="[^"]*">([^<]+)<', rows)
    assert shown == [word for row in judged for word in row]
    silent = silent.replace("; not looked at", "")  # of a registered study before its look
    assert silent.count(";") == len(words) - len(judged) - 1


@pytest.mark.filterwarnings("error")  # the page would show it
def test_each_published_network_has_its_parts(published):
    assert len(published) > 2
    for source in published:
        if source.withheld:  # the page asks for no part of it
            assert not list(source.tables)
            continue
        assert parts.transitions(source).count("<tr>") == 1 + 2 + len(parts.courses(source))
        assert parts.beyond(source).count("<tr>") > 1
        assert ("growth_rate" in source.tables) == ("<tr>" in parts.growth(source))


def test_a_sweep_has_a_table_of_its_own_and_no_verdicts(published):
    found = sources.all_networks(ROOT / "paper/measurements").sweeps
    assert found
    assert not {sweep.study for sweep in found} & {source.study for source in published}
    sweep = found[0]
    rows = parts.dependence(sweep).split("<tr>")[1:]
    heads = [re.sub(r"<[^>]*>", "", head) for head in rows[0].split("</th>")[:-1]]
    assert heads == [sweep.keys, *(v + text.same_as(s) for v, s in sweep.sources.items())]
    for head, source in zip(heads[1:], sweep.sources.values(), strict=True):
        training = source.tables["training"].query(f"t == {source.iterations}")
        mean = text.number(training["test_accuracy"].mean())
        assert f'<td data-head="{head}">{mean} [' in rows[1]


def test_equal_runs_are_found_by_their_bits_and_count_once(published):
    same = {source.study: source for source in published if source.same_as}
    assert same
    for source in same.values():
        study, name = source.same_as.split(", ")
        (other,) = [o for o in published if (o.study, o.name) == (study, name)]
        assert source.network == other.network
        assert source.model.training.lr == other.model.training.lr
        assert set(source.used) <= set(other.used)
    # One that is followed for longer is the same; another bit, and it is another run.
    course = {t: (1 / (1 + t), 0.5) for t in range(0, 100, 10)}
    longer = course | {100: (0.0, 0.5)}
    other = course | {90: (course[90][0] * (1 + 1e-15), 0.5)}
    each = {("a", "n"): [course], ("b", "n"): [longer, other], ("c", "n"): [other, course, course]}
    assert equality.equal(course, longer)
    assert not equality.equal(course, other)
    found = equality.repeated(each)
    assert found == {("a", "n"): ("c", "n"), ("b", "n"): ("c", "n")}
    apart = {key: runs for key, runs in each.items() if key != ("c", "n")}
    assert equality.repeated(apart) == {("a", "n"): ("b", "n")}
    start = {0: course[0]}  # what all networks of one seed share
    assert not equality.equal(start, course)


def test_readme_quotes_the_verdicts_as_they_are(published):
    rules = claims.load(ROOT / "paper/claims.yaml")
    found = verdicts.verdicts(rules, published)
    readme = (ROOT / "README.md").read_text()
    assert text.in_readme(readme, text.quoted(found, rules)) == readme, "run `make readme`"
    assert len(rules.quoted) == 3
    block = text.quoted(found, rules)
    assert all(len(line.split("|")) <= 7 for line in block.splitlines()), "as wide as a page"
    tests = {own.study for own in rules.registered}
    for source in published:
        if source.study in tests:
            alone, compared = text.name_of(source), f"{source.study}, its networks compared"
            assert f"- {alone}: *" in block or f"- {compared}: *" in block
            continue
        quoted = source.study in rules.quoted_studies
        assert (f"| {text.name_of(source)} |" in block) == quoted
        assert quoted or source.study in block.splitlines()[-1]
    other = rules.model_copy(update={"quoted_studies": ["none"]})
    with pytest.raises(RunError, match="quoted_studies: none is not published; must be of"):
        text.quoted(found, other)
    for broken in (readme.replace(text.END, ""), readme + text.BEGIN):
        with pytest.raises(RunError, match="README.md: must hold the lines"):
            text.in_readme(broken, "")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1.8845, "1.88"),
        (-0.5, "−0.5"),
        (3, "3"),
        (1500.0, "1500"),
        (156207.2, "156\u202f207"),
        (1e-7, "1\u00a0×\u00a010⁻⁷"),
        (-1.234e9, "−1.23\u00a0×\u00a010⁹"),
        (0.00033, "0.00033"),
        (math.inf, "∞"),
        (math.nan, "?"),
    ],
)
def test_numbers(value, told):
    assert text.number(value) == told


def test_intervals():
    assert text.interval(Estimate(1.8845, 1.4635, 2.3055, 3)) == "1.88 [1.46, 2.31]"
    assert text.interval(Estimate(2.0, math.nan, math.nan, 1)) == "2"
    assert text.range_of(-math.inf, 0.5) == "below 0.5"


@pytest.fixture(scope="module")
def clone(tmp_path_factory, copy_checkout):
    """A clone in which one small study alone is published, and page and PDF made by Snakemake."""
    folder = copy_checkout(tmp_path_factory.mktemp("paper"))
    made = shutil.ignore_patterns("*.html", "*.ipynb", "*.pdf", "figures")
    shutil.copytree(ROOT / "paper", folder / "paper", ignore=made)
    shutil.rmtree(folder / "paper/measurements")
    shutil.copytree(ROOT / "tests/published/smoke", folder / "paper/measurements/smoke")
    offline = ENVIRONMENT | {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    run = forked.run(forked.LIGHT, folder, offline, "snakemake", "--cores", "2", PDF)
    assert run.returncode == 0, (
        run.stderr + (folder / "paper/figures/logs/replication.log").read_text()
    )
    return folder


def test_a_published_study_gets_its_rows_and_panels(clone):
    shown = (clone / PAGE).read_text()
    measurements = clone / "paper/measurements"
    found = sources.sources(measurements)
    assert {source.study for source in found} == {"smoke"}
    for source in found:
        # Abstract, settings; of the appendix verdicts, transitions, numbers beside the claims.
        assert shown.count(text.name_of(source)) >= 5
    panels = sum(
        figure != "findings"
        for study, file in sources.published(measurements)
        for figure in drawing.redrawable(study, file)
    )
    assert shown.count("<svg") == panels  # one seed has no transitions to draw
    rules = claims.load(clone / "paper/claims.yaml")
    each = [v for v in verdicts.verdicts(rules, found) if v.claim.kind != "figure"]
    assert {v.word for v in each} == {verdicts.CANNOT_SAY}  # one seed
    assert 'class="matrix"' not in shown
    assert "No claim can be judged yet on: smoke, vgg; smoke, resnet." in shown


def test_the_page_is_one_file_with_contents(clone):
    shown = (clone / PAGE).read_text()
    assert "<script" not in shown
    assert "<link" not in shown
    assert "<img" not in shown.replace("<image", "")
    urls = re.findall(r'(?:src|href)="([^"#][^"]*)"', shown)
    assert all(url.startswith(("https://arxiv.org/", "data:")) for url in urls), urls
    ids = re.findall(r'\bid="([^"]+)"', shown)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]+)"', shown)
    assert set(targets) <= set(ids)
    headings = re.findall(r"<h[23] id=", shown)
    assert len(headings) == shown.count('<li class="h') > 10
    assert "Traceback" not in shown
    assert "output_stderr" not in shown
    notebook = nbformat.read(clone / "paper/replication.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


def test_a_page_of_ones_own_has_ones_studies_and_claims_alone(clone, monkeypatch):
    monkeypatch.chdir(clone)
    mine = clone / "mine.yaml"
    rules = claims.load(clone / "paper/claims.yaml")
    kept = rules.model_copy(update={"claims": rules.claims[:1], "registered": [], "quoted": []})
    mine.write_text(json.dumps(kept.model_dump(mode="json", exclude_none=True)))
    monkeypatch.setenv(page.OWN, json.dumps({"studies": ["smoke"], "claims": str(mine)}))
    found = page.subject()
    assert [study.name for study, _ in found.studies] == ["smoke"]
    assert {v.claim.id for v in found.found} == {rules.claims[0].id}
    monkeypatch.setenv(page.OWN, json.dumps({"studies": ["other"]}))
    with pytest.raises(RunError, match="^other: is not published; published are smoke$"):
        page.subject()
    monkeypatch.delenv(page.OWN)
    assert len(page.subject().rules.claims) == len(rules.claims)


def test_the_pdf_says_and_shows_what_the_page_does(clone, monkeypatch):
    monkeypatch.chdir(clone)
    before = (clone / PDF).read_bytes()
    assert before.startswith(b"%PDF")
    assert str(clone).encode() not in before
    pdf.build()
    assert (clone / PDF).read_bytes() == before

    shown, drawings = (clone / PAGE).read_text(), pdf.drawn()
    source = pdf.markup(shown, drawings)
    assert len(drawings) == source.count("#drawing(") == shown.count("<svg")
    assert all(json.dumps(svg, ensure_ascii=False) in source for svg in drawings.values())
    words = re.sub(r"(?m)^#drawing.*$", "", source.replace("#drawing", "\n#drawing"))
    # What is printed: strings, but for the first ones of calls that take two.
    strings = re.findall(r'(#kind\(|#link\()?("(?:[^"\\]|\\.)*")', words)
    told = "".join(json.loads(string) for call, string in strings if not call)
    main = re.search(r"<main>(.*)</main>", shown, re.S)[1]
    expected = html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"(?s)<svg.*?</svg>", "", main)))
    assert re.sub(r"[ \n]+", "", told) == re.sub(r"[ \n]+", "", expected)

    looks = clone / "paper/replication.typ"
    edit(looks, "a4", "a5")
    assert not pdf.current()
    edit(looks, "a5", "a4")


def test_the_page_is_made_again_when_what_it_shows_changes(clone, monkeypatch):
    assert planned(clone, PDF) == {}
    monkeypatch.chdir(clone)
    assert page.current()
    assert pdf.current()
    for path in page.read_from():
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert not page.current(), path
        path.write_bytes(before)
    os.utime(clone / "paper/claims.yaml", (86_400, 86_400))
    assert page.current()
    code = clone / "src/twophase/writeup/verdicts.py"
    before = code.read_text()
    edit(code, "cannot say yet", "open")
    assert planned(clone, PDF) == {"replication": 1, "replication_pdf": 1}
    code.write_text(before)


def test_the_archive_is_of_the_commit_and_can_be_checked(clone, monkeypatch):
    monkeypatch.chdir(clone)

    def git(*arguments):
        who = ["-c", "user.name=A", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *arguments], cwd=clone, check=True, capture_output=True)

    shutil.copy(ROOT / "CITATION.cff", clone)
    shutil.copy(ROOT / ".gitignore", clone)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    path = clone / archive()
    first = path.read_bytes()
    assert archive().read_bytes() == first
    with zipfile.ZipFile(path) as packed:
        files = {name.split("/", 1)[1]: packed.read(name) for name in packed.namelist()}
    sums = dict(line.split("  ")[::-1] for line in files.pop("SHA256SUMS").decode().splitlines())
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    needed = {
        PAGE,
        PDF,
        "paper/replication.ipynb",
        "envs/requirements.txt",
        "Snakefile",
        ".zenodo.json",
    }
    assert needed <= set(files)
    assert "paper/measurements/smoke/chaos_summary.parquet" in files
    metadata = json.loads(files[".zenodo.json"])
    assert metadata["related_identifiers"][0]["identifier"] == "arXiv:2505.13900"
    asked = {"title", "creators", "license", "publication_date", "keywords", "description"}
    assert all(metadata[key] for key in asked | {"version", "notes"})

    # What the page shows and the commit has not: a study, one that git is told to ignore, code.
    new = clone / "paper/measurements/new"
    shutil.copytree(clone / "paper/measurements/smoke", new)
    (new / "smoke.yaml").rename(new / "new.yaml")
    with pytest.raises(RunError, match=r"^paper/measurements/new/.*: is not committed; commit it"):
        archive()
    with (clone / ".gitignore").open("a") as ignored:
        ignored.write("paper/measurements/new/\n")
    git("commit", "-qam", "ignore it")
    with pytest.raises(RunError, match=r"^paper/measurements/new/.*: is not committed; commit it"):
        archive()
    shutil.rmtree(new)
    code = clone / "src/twophase/new.py"
    code.write_text("")
    with pytest.raises(RunError, match="^src/twophase/new.py: is not committed"):
        archive()
    code.unlink()
    assert archive().read_bytes() != first  # the commit has another .gitignore
    edit(clone / "paper/claims.yaml", "the ", "some ")
    with pytest.raises(RunError, match="paper/claims.yaml: is not committed"):
        archive()
    git("commit", "-qam", "other")
    with pytest.raises(RunError, match=f"{PAGE}: is missing or of other tables or code"):
        archive()
    edit(clone / "paper/claims.yaml", "some ", "the ")
