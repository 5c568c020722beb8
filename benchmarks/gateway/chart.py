"""A bar chart as SVG: a line for each bar, its name, its length and its figure."""

from collections.abc import Iterator, Mapping
from html import escape

WIDTH, NAMES, FIGURES = 720, 230, 60
ROW, BAR, TOP = 26, 16, 44


def bars(title: str, values: Mapping[str, float], *, emphasised: str) -> str:
    height = TOP + ROW * len(values) + 12
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            "<style>text{font:13px system-ui,sans-serif;fill:#333}.bar{fill:#9db4c8}.ours{fill:#1f6feb}",
            "@media(prefers-color-scheme:dark){text{fill:#ddd}.bar{fill:#57697a}}</style>",
            f"<title>{escape(title)}</title>",
            f'<text x="0" y="20" font-weight="600">{escape(title)}</text>',
            *_rows(values, emphasised),
            "</svg>",
            "",
        ]
    )


def _rows(values: Mapping[str, float], emphasised: str) -> Iterator[str]:
    longest = max(values.values())
    for number, (name, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        y = TOP + ROW * number
        length = (WIDTH - NAMES - FIGURES) * value / longest
        kind = "ours" if name == emphasised else "bar"
        yield f'<text x="0" y="{y + 13}">{escape(name)}</text>'
        yield f'<rect class="{kind}" x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        yield f'<text x="{NAMES + length + 6:.1f}" y="{y + 13}">{value:.1f}</text>'
