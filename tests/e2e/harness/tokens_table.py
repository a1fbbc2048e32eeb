"""What the tests of the tokens found, as tables: pytest --tokens-table FILE writes them."""

from .pki import KEY_TYPES
from .tokens import TOKENS

# A test's name, and its column; those in the first table are by type of key.
BY_KEY = {
    "test_keys_are_made_shown_imported_and_destroyed": "immure",
    "test_each_scheme_verifies": "schemes, and the mechanism used",
    "test_handshakes_of_both_versions": "TLS 1.2, TLS 1.3",
}
BY_TOKEN = {
    "test_rsa_key_exchange": "RSA key exchange",
    "test_eight_threads_at_a_time": "8 threads",
    "test_a_reload_goes_unnoticed": "reload",
    "test_a_token_that_dies_is_used_again_when_it_is_back": "death and return",
}


def note(item, report):
    """Keeps in the report what the tables say of this test."""
    parameters = getattr(item, "callspec", None) and item.callspec.params
    if parameters and "device" in parameters and (report.when == "call" or not report.passed):
        cell = (item.originalname, parameters["device"].name, parameters.get("key_type"))
        report.token_cell = (cell, words(report))


def words(report):
    if report.skipped:
        return report.longrepr[2].removeprefix("Skipped: ")
    if report.failed:
        return "FAILED"
    return dict(report.user_properties).get("found", "passed")


def table(columns, rows):
    """Markdown; `rows`: pairs of the first cells and a function of a test's name."""
    lines = [(*first, *(cell(test) for test in columns)) for first, cell in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def write(reports, file):
    cells = dict(report.token_cell for report in reports if hasattr(report, "token_cell"))

    def row(token, key_type=None):
        first = (token.name, key_type) if key_type else (token.name,)
        return first, lambda test: cells.get((test, token.name, key_type), "not run")

    heads = (("token", "key"), BY_KEY), (("token",), BY_TOKEN)
    rows = [row(token, key) for token in TOKENS for key in KEY_TYPES], [row(t) for t in TOKENS]
    for (first, columns), found in zip(heads, rows):
        titles = (*first, *columns.values())
        lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles), *table(columns, found)]
        file.write("\n".join(lines) + "\n\n")
