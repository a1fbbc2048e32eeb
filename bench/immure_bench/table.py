"""Results as tables: aligned text, Markdown and JSON from one object."""

from dataclasses import dataclass, field


@dataclass
class Table:
    """`rows` are lists of texts and numbers; `notes` are paragraphs under the table."""

    name: str  # of the JSON object
    title: str
    columns: list
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    data: object = None  # what the rows were made from, for the JSON file

    def text(self):
        lines = [self.columns, *([cell(value) for value in row] for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        aligned = ["  ".join(self._align(i, line, widths) for i, _ in enumerate(line)) for line in lines]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        body = "\n".join(line.rstrip() for line in [aligned[0], rule, *aligned[1:]])
        return "\n\n".join([f"{self.title}\n\n{body}", *self.notes])

    def _align(self, column, line, widths):
        """Columns that hold numbers to the right."""
        values = [row[column] for row in self.rows]
        right = values and not any(isinstance(v, str) and v != NONE for v in values)
        return line[column].rjust(widths[column]) if right else line[column].ljust(widths[column])

    def markdown(self):
        lines = [
            f"## {self.title}", "", "| " + " | ".join(self.columns) + " |",
            "| " + " | ".join("---" for _ in self.columns) + " |",
            *("| " + " | ".join(cell(value) for value in row) + " |" for row in self.rows), "",
            *(f"{note}\n" for note in self.notes),
        ]
        return "\n".join(lines)

    def json(self):
        rows = [dict(zip(self.columns, row)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": self.notes, "data": self.data}


NONE = "-"


def cell(value):
    """Three digits or so of a number; None is a dash."""
    if value is None:
        return NONE
    if isinstance(value, float):
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
        return f"{value:.{digits}f}"
    return str(value)


def spread(values):
    """min..max of ratios."""
    return f"{min(values):.2f}..{max(values):.2f}" if values else NONE
