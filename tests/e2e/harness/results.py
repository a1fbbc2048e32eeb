"""Tables of what tests found: pytest --tables=FILE writes them, in Markdown.

A test says which cell it fills, in words that name its parameters:
    @pytest.mark.cell("server | key", "{server.name} | {key_type}", "TLS {version}")
The first are the titles of what makes a row's name. Several tests of a cell are one result: the
worst. A test that has more to say than "passed" does so by record_property("found", ...).
"""

SEVERITY = ("skipped", "FAILED")

tables = {}  # by titles, by row, by column


def note(item, report):
    """Takes the result of a test that has a cell."""
    mark = item.get_closest_marker("cell")
    if mark and (report.when == "call" or not report.passed):
        titles, row, column = (text.format(**item.callspec.params) for text in mark.args)
        cells, text = tables.setdefault(titles, {}).setdefault(row, {}), words(report)
        cells[column] = max(cells.get(column, text), text, key=severity)


def words(report):
    if report.skipped:
        return f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
    if report.failed:
        return "FAILED"
    return dict(report.user_properties).get("found", "passed")


def severity(text):
    return max((n for n, word in enumerate(SEVERITY, 1) if text.startswith(word)), default=0)


def write(file):
    for titles, rows in tables.items():
        columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
        print(f"| {titles} | {' | '.join(columns)} |", file=file)
        print("|" + " --- |" * (titles.count("|") + 1 + len(columns)), file=file)
        for row, cells in rows.items():
            print(f"| {row} | {' | '.join(cells.get(c, 'not run') for c in columns)} |", file=file)
        print(file=file)
