"""What a document says, as a test sees it: its commands, files, links and notes about both.

A comment above commands, which readers do not see, says how they are tested:

    <!-- run by CI: tests/e2e/test_documents.py::test_nginx_guide -->
    <!-- not run by CI: needs a TPM -->

It counts up to the next one or the next heading; right below a document's title, for all of it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
NOTE = re.compile(r"<!-- (run by CI|not run by CI): (.+?) -->$")
FENCE = re.compile(r"( *)```(\S*)$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMANDS = ("sh", "bash", "console")  # and what is indented


@dataclass
class Block:
    document: Path
    line: int
    section: str
    language: str  # "" for what is indented
    text: str
    before: str  # the paragraph before it
    note: tuple  # ("run by CI" or "not run by CI", what), or None

    @property
    def is_commands(self):
        return self.language in ("", *COMMANDS)

    @property
    def file(self):
        """The file whose content this is: the last one that the line before names, or None."""
        named = re.findall(r"`(/[^`]+)`", self.before)
        return named[-1] if named and self.before.endswith(":") and self.language else None

    @property
    def where(self):
        return f"{self.document.relative_to(PROJECT)}:{self.line}"


def documents():
    return [
        *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *sorted((PROJECT / "doc").rglob("*.md")),
    ]


def anchor(heading):
    """The name that a heading gets as a link's target."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(path):
    lines = path.read_text().splitlines()
    return {anchor(line.lstrip("# ")) for line in lines if line.startswith("#")}


def links(path):
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.M | re.S)
    return [link for link in LINK.findall(text) if "://" not in link]


def blocks(path):
    """All blocks of code of a document, in their order."""
    found, note, section, before, lines = [], None, "", "", path.read_text().splitlines()
    title_note = NOTE.match(lines[1])
    of_all = title_note and title_note.groups()
    number = 0
    while number < len(lines):
        line, start = lines[number], number + 1
        if match := NOTE.match(line.strip()):
            note = match.groups()
        elif line.startswith("#"):
            note, section = of_all, line.lstrip("# ")
        elif fence := FENCE.match(line):
            end = lines.index(fence[1] + "```", start)
            text = "\n".join(text[len(fence[1]) :] for text in lines[start:end]) + "\n"
            found.append(Block(path, start, section, fence[2] or "text", text, before, note))
            number = end
        elif line.startswith("    ") and not before:
            end = start
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end]):
                end += 1
            text = "\n".join(text[4:] for text in lines[number:end]).rstrip() + "\n"
            found.append(Block(path, start, section, "", text, before, note))
            number = end - 1
        number += 1
        before = paragraph_before(lines, number)
    return found


def paragraph_before(lines, number):
    """The paragraph that ends right before this line, or before the empty line above it."""
    end = number
    if end < len(lines) and FENCE.match(lines[end]):
        while end and not lines[end - 1].strip():
            end -= 1
    start = end
    while start and lines[start - 1].strip():
        start -= 1
    return " ".join(line.strip() for line in lines[start:end])
