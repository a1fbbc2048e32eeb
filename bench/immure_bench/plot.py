"""A plot of the handshake rates relative to a key in a file, drawn by gnuplot."""

from statistics import median

from .lab import ASYNC, LIBP11, SYNC, run

VARIANTS = (LIBP11, SYNC, ASYNC)
# Okabe and Ito's, which people with any colour vision can tell apart; different in lightness too.
COLOURS = ("#e69f00", "#56b4e9", "#004d73")
PANEL_TITLES = {"SoftHSM": "SoftHSM as it is", "2 ms": "2 ms a signature", "20 ms": "20 ms a signature"}

HEAD = """
set terminal svg size {width},430 font "sans-serif,13" background "#ffffff" dynamic
set output "{output}"
set datafile missing "?"
set style data histograms
set style histogram errorbars gap 1 linewidth 1
set style fill solid 1 border rgb "#ffffff"
set boxwidth 0.92
set bars 0.4
set border 3 lc rgb "#666666"
set tics nomirror textcolor rgb "#222222"
set xtics scale 0
set ytics 0.2 format "%.1f"
set grid ytics lc rgb "#dddddd" lw 1 front
unset grid
set yrange [0:{top}]
set key at screen 0.5,0.075 center bottom horizontal samplen 1.5 width 2
set multiplot layout 1,{panels} margins 0.065,0.99,0.27,0.82 spacing 0.035 \
    title "Full TLS 1.3 handshakes a second, relative to a key in a file (nginx)" font ",16"
"""

PANEL = """
$data{number} << END
{rows}
END
set title "{title}" offset 0,-0.5
set ylabel "{label}" offset 1
{key}
set arrow 1 from graph 0,first 1 to graph 1,first 1 nohead lc rgb "#444444" dt 2 lw 1.2 back
plot {bars}
"""


def _bars(number):
    return ", ".join(
        f"$data{number} using {2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i}:xtic(1) "
        f'title "{variant}" lc rgb "{colour}"'
        for i, (variant, colour) in enumerate(zip(VARIANTS, COLOURS))
    )


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
    top = max(max(e["ratios"]) for e in data if e["server"] == "nginx" and e["variant"] in VARIANTS)
    parts = [HEAD.format(width=1060, output=output, panels=len(panels), top=max(1.2, top * 1.08))]
    for number, (token, cells) in enumerate(panels.items()):
        first = number == 0
        parts.append(
            PANEL.format(
                number=number, title=PANEL_TITLES[token], bars=_bars(number),
                rows="\n".join(_row(cell, ratios) for cell, ratios in cells.items()),
                label="key in a file = 1" if first else "",
                key="set key" if first else "unset key",
            )
        )
    return "".join(parts) + "unset multiplot\n"


def draw(data, output):
    """Writes the SVG; `data` is that of the table of handshake rates."""
    run("gnuplot", "-", input=script(data, output))
