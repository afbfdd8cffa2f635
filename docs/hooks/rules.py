"""The rules of the workflow, drawn: `docs/jobs.md` shows what this prints.

snakemake --cores 2 --rulegraph mermaid-js figures/smoke/all | python docs/hooks/rules.py
"""

import re
import sys


def edges(drawn: str) -> set[tuple[str, str]]:
    """The pairs of rules, of which one waits for the other, in a flowchart of Snakemake's."""
    names = dict(re.findall(r"^\s*(id\d+)\[(.*)\]$", drawn, re.M))
    pairs = re.findall(r"^\s*(id\d+) --> (id\d+)$", drawn, re.M)
    return {(names[before], names[after]) for before, after in pairs}


def after(pairs: set[tuple[str, str]], rule: str) -> set[str]:
    """All rules that wait for one, at once or in the end."""
    found: set[str] = set()
    queue = [rule]
    while queue:
        last = queue.pop()
        new = {b for a, b in pairs if a == last} - found
        found |= new
        queue += new
    return found


def reduced(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The same without pairs that follow from others; rules that stand between the same ones are
    drawn as one.
    """
    follows = {(a, c) for a, b in pairs for c in after(pairs, b)}
    pairs = pairs - follows
    rules = {rule for pair in pairs for rule in pair}

    def beside(rule: str) -> tuple[frozenset[str], ...]:
        return (
            frozenset(a for a, b in pairs if b == rule),
            frozenset(b for a, b in pairs if a == rule),
        )

    alike = {
        rule: ", ".join(sorted(r for r in rules if beside(r) == beside(rule))) for rule in rules
    }
    return {(alike[a], alike[b]) for a, b in pairs}


def flowchart(pairs: set[tuple[str, str]]) -> str:
    """A Mermaid flowchart, in an order that depends on nothing else."""
    rules = sorted(
        {rule for pair in pairs for rule in pair}, key=lambda r: (-len(after(pairs, r)), r)
    )
    number = {rule: index for index, rule in enumerate(rules)}
    lines = [f'    {number[rule]}["{rule}"]' for rule in rules]
    lines += [f"    {a} --> {b}" for a, b in sorted((number[a], number[b]) for a, b in pairs)]
    return "\n".join(["flowchart TB", *lines])


if __name__ == "__main__":
    print(flowchart(reduced(edges(sys.stdin.read()))))
