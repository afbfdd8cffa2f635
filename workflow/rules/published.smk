# What figures and the write-up of published measurements are made from. They say themselves what
# made them.
from twophase.figures import drawing
from twophase.study.tables import published_study
from twophase.writeup import page, pdf


@plainly
def published(name):
    """The study published under this name, with its file."""
    patches.forget_dates(workflow)
    return published_study(name)


@plainly
def published_inputs(wildcards):
    """The published tables of a figure. A figure of other tables or code is drawn again."""
    study, file = published(wildcards.study)
    there = [name for name in drawing.redrawable(study, file) if name != "findings"]
    if wildcards.figure not in there:
        sys.exit(
            f"{file.parent}: {wildcards.figure} cannot be drawn; these can: {', '.join(there)}"
        )
    tables = drawing.published_tables(study, file, wildcards.figure)
    folder = Path("paper/figures") / study.name
    maker = drawing.redrawn_by(study, file, wildcards.figure)
    if not figures.current(folder, wildcards.figure, maker):
        patches.make_again(workflow, [folder / name for name in figures.files(wildcards.figure)])
    return [file, *(table.path for table in tables.values())]


def writeup_inputs(_):
    """What the write-up is made from. One of other tables or code is executed again."""
    patches.forget_dates(workflow)
    if not page.current():
        patches.make_again(workflow, [page.PAGE, page.NOTEBOOK])
    return page.read_from()


def pdf_inputs(_):
    """The page that the PDF is of. A PDF of another page is set again."""
    patches.forget_dates(workflow)
    if not pdf.current():
        patches.make_again(workflow, [pdf.PDF])
    return [page.PAGE, page.NOTEBOOK]
