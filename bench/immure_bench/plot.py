"""A plot of the handshake rates relative to a key in a file, drawn by gnuplot."""

from statistics import median

from .lab import ASYNC, LIBP11, SYNC, run

VARIANTS = (LIBP11, SYNC, ASYNC)
# Okabe and Ito's, which people with any colour vision can tell apart; different in lightness too.
COLOURS = ("#e69f00", "#56b4e9", "#004d73")
PANEL_TITLES = {
    "SoftHSM": "SoftHSM as it is",
    "2 ms": "2 ms a signature",
    "2 ms, elsewhere": "2 ms, elsewhere",
    "20 ms": "20 ms a signature",
    "20 ms, elsewhere": "20 ms, elsewhere",
}

# Panels beside each other, and the height of a row of them and of all that is around them.
COLUMNS = 3
ROW, AROUND = 300, 110
# Where the legend is, of the height.
LEGEND = 0.03

HEAD = """
set terminal svg size 1060,{height} font "sans-serif,13" background "#ffffff" dynamic
set output "{output}"
set datafile missing "?"
set style data histograms
set style histogram errorbars gap 1 linewidth 1
set style fill solid 1 border rgb "#333333"
set border 3 lc rgb "#666666"
set tics nomirror textcolor rgb "#222222"
set xtics scale 0
set ytics 0.2 format "%.1f"
set xrange [-0.65:{cells} - 0.35]
set yrange [0:{top}]
set arrow from graph 0, first 1 to graph 1, first 1 nohead lc rgb "#444444" dt 2 lw 1.2 back
unset key
{legend}
set multiplot layout {rows},{columns} margins 0.065,0.99,{bottom},{top_margin} spacing 0.045,{gap} \
    title "Full TLS 1.3 handshakes a second with nginx, relative to a key in a file" font ",16"
"""

PANEL = """
$data{number} << END
{rows}
END
set title "{title}" offset 0,-0.5
set ylabel "{label}" offset 1
plot {bars}
unset object
unset label
"""


def _bars(number):
    return ", ".join(
        f"$data{number} using {2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i}:xtic(1) "
        f'lc rgb "{colour}"'
        for i, colour in enumerate(COLOURS)
    )


def _legend():
    """Side by side: gnuplot's own key does not reach over several panels."""
    lines = []
    for i, (variant, colour) in enumerate(zip(VARIANTS, COLOURS)):
        left = 0.3 + 0.15 * i
        lines += [
            f'set object rectangle center screen {left},{LEGEND} size screen 0.014,0.02 '
            f'fillcolor rgb "{colour}" fillstyle solid 1 border rgb "#333333"',
            f'set label "{variant}" at screen {left + 0.014},{LEGEND} left',
        ]
    return "\n".join(lines)


def _row(cell, ratios):
    """The cell's label, and median, least and most of each variant."""
    key, workers = cell
    label = f"{key}\\n{workers} worker{'s' if workers > 1 else ''}"
    values = [
        f"{median(r):.4f} {min(r):.4f} {max(r):.4f}" if (r := ratios.get(variant)) else "? ? ?"
        for variant in VARIANTS
    ]
    return f'"{label}" {" ".join(values)}'


def _panels(data):
    """{token: {(key, workers): {variant: ratios}}}"""
    panels = {}
    for entry in data:
        if entry["server"] == "nginx":
            cells = panels.setdefault(entry["token"], {})
            cell = cells.setdefault((entry["key"], entry["workers"]), {})
            cell[entry["variant"]] = entry["ratios"]
    return panels


def script(data, output):
    panels = _panels(data)
    most = max(max(e["ratios"]) for e in data if e["server"] == "nginx" and e["variant"] in VARIANTS)
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    height = rows * ROW + AROUND
    parts = [
        HEAD.format(
            output=output, rows=rows, columns=columns, height=height, legend=_legend(),
            bottom=90 / height, top_margin=1 - 80 / height, gap=100 / height,
            top=max(1.2, most * 1.05), cells=max(len(cells) for cells in panels.values()),
        )
    ]
    for number, (token, cells) in enumerate(panels.items()):
        rows = "\n".join(_row(cell, ratios) for cell, ratios in cells.items())
        parts.append(
            PANEL.format(
                number=number, title=PANEL_TITLES[token], bars=_bars(number), rows=rows,
                label="" if number % columns else "key in a file = 1",
            )
        )
    return "".join(parts) + "unset multiplot\n"


def draw(data, output):
    """Writes the SVG; `data` is that of the table of handshake rates."""
    run("gnuplot", "-", input=script(data, output))
