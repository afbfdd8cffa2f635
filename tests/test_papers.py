"""The papers beside ours: their claims, what published tables say of them, and the overview."""

import re
import shutil

import pytest
from conftest import ROOT

from twophase.errors import StudyError
from twophase.writeup import claims, overview, sources
from twophase.writeup.verdicts import CANNOT_SAY, NOT, REPLICATED, Verdict

PAPER = ROOT / "paper"
FILES = overview.files(PAPER)
OTHERS = ["butterfly", "cone-effect", "kernel-learning", "linear-connectivity"]


@pytest.fixture(scope="module")
def papers():
    """All papers but ours, whose verdicts test_writeup.py looks at."""
    tested, swept, _ = sources.all_networks(PAPER / "measurements")
    others = {name: file for name, file in FILES.items() if name != "."}
    return {name: overview.judged(name, file, tested, swept) for name, file in others.items()}


def test_each_folder_with_claims_is_a_paper_and_says_what_it_is():
    assert list(FILES) == [".", "across", *OTHERS]
    for file in FILES.values():
        about = (file.parent / overview.ABOUT).read_text().splitlines()
        assert about[0].startswith("# ")
        assert not about[1]


@pytest.mark.parametrize("name", OTHERS)
def test_six_claims_or_more_are_judged_by_published_tables(papers, name):
    judged = {v.claim.id for v in papers[name].found if v.word != CANNOT_SAY and v.outcomes}
    assert len(judged) >= 6


def test_studies_that_were_run_for_these_claims_had_not_been_looked_at(papers):
    for paper in papers.values():
        for study in ("digits-instability", "digits-butterfly"):
            assert study not in paper.rules.seen


def test_the_overview_has_each_claim_once_and_each_verdict_that_counts(papers):
    for paper in papers.values():
        rows = overview.table(paper).split("<tr>")[2:]
        assert len(rows) == len(paper.rules.claims)
        for claim, row in zip(paper.rules.claims, rows, strict=True):
            assert f"<b>{claim.claim}</b><br>{claim.source}" in row
            own = [v for v in overview.counting(paper.found) if v.claim is claim]
            silent = [v for v in own if v.word == CANNOT_SAY]
            cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
            named = sum(len(list(filter(None, cell.split("<br>")))) for cell in cells[1:-1])
            assert (named, int(cells[-1])) == (len(own) - len(silent), len(silent))


def verdict(paper, name, word, study="made-up", same_as=""):
    claim = paper.rules.claim(name)
    source = sources.Source(study, "net", {}, 100, 3, 0.1, {}, same_as=same_as)
    return Verdict(claim, source, word, "", [], False)


@pytest.mark.parametrize(("other", "same"), [(REPLICATED, True), (NOT, False), (CANNOT_SAY, None)])
def test_papers_agree_where_their_verdicts_are_the_same(papers, other, same):
    question = overview.Question("?", {"butterfly": "tiny-early-parts", "across": "as-far-late"})
    one = papers["butterfly"]._replace(found=[])
    two = papers["across"]._replace(found=[])
    one = one._replace(found=[verdict(one, "tiny-early-parts", REPLICATED)])
    two = two._replace(found=[verdict(two, "as-far-late", other)])
    found = overview.answers(question, [one, two])
    assert [overview.agree(own) for own in found.values()] == ([] if same is None else [same])


@pytest.mark.parametrize("first_judged", [True, False])
def test_a_network_with_the_runs_of_another_is_shown_where_it_tells_more(papers, first_judged):
    question = overview.Question("?", {"butterfly": "tiny-early-parts", "across": "as-far-late"})
    each = []
    for name, claim in question.claims.items():
        paper = papers[name]._replace(found=[])
        found = [verdict(paper, claim, REPLICATED, "twin", "first, net")]
        if first_judged or name == "across":
            found.append(verdict(paper, claim, REPLICATED, "first"))
        each.append(paper._replace(found=found))
    shown = list(overview.answers(question, each))
    assert shown == (["first, net"] if first_judged else ["twin, net"])


def test_questions_name_claims_that_there_are(papers, tmp_path):
    ours = overview.Paper(".", FILES["."], claims.load(FILES["."]), [])
    each = [ours, *papers.values()]
    assert len(overview.questions(each, PAPER)) >= 4
    wrong = (PAPER / overview.QUESTIONS).read_text().replace("early-chaos", "early-chaso")
    (tmp_path / overview.QUESTIONS).write_text(wrong)
    with pytest.raises(StudyError, match="early-chaso: must be of early-chaos, late-stable"):
        overview.questions(each, tmp_path)


def test_another_paper_is_a_folder_and_no_code(tmp_path):
    shutil.copytree(PAPER / "across", tmp_path / "another")
    shutil.copy(PAPER / "claims.yaml", tmp_path)
    assert list(overview.files(tmp_path)) == [".", "another"]
    new = overview.judged("another", overview.files(tmp_path)["another"], [], [])
    assert (new.title, new.found) == (papers_title(), [])


def papers_title():
    return (PAPER / "across/about.md").read_text().splitlines()[0].removeprefix("# ")
