"""Many pictures as one: a grid with what each shows written below it."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GROUND, INK = (244, 244, 241), (40, 40, 40)
LINE = 18  # pixels of a line of text
SIZE = 13  # of its letters


def gallery(shown: Sequence[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """Equally large RGBA pictures in rows of `columns`, on one ground, each above its label.

    A label that is wider than its picture is broken between words.
    """
    width, height = shown[0][1].size
    font = ImageFont.load_default(SIZE)
    labels = [broken(label, width, font) for label, _ in shown]
    rows = -(-len(shown) // columns)
    cell = height + max(len(label) for label in labels) * LINE + LINE // 2
    page = Image.new("RGB", (min(columns, len(shown)) * width, rows * cell), GROUND)
    pen = ImageDraw.Draw(page)
    for index, ((_, picture), lines) in enumerate(zip(shown, labels, strict=True)):
        left, top = index % columns * width, index // columns * cell
        page.paste(picture, (left, top), picture)
        for number, line in enumerate(lines):
            pen.text((left + width / 2, top + height + number * LINE), line, INK, font, anchor="ma")
    return page


def broken(label: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """The lines of a label of which none is wider than this, words being whole."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
