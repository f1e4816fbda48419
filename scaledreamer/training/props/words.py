"""The words of the props world: every meaning with the words that training uses and the words kept for the test."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One meaning with the words that training uses (the first is canonical) and the words kept for the test.

    `wide` are those that the wide world keeps for the test, where it trains on the others too.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()


KINDS: dict[str, Word] = {
    "barrel": Word(("barrel", "cask"), ("keg",), ("wine barrel",)),
    "chest": Word(("treasure chest", "chest"), ("loot chest",), ("pirate chest",)),
    "tree": Word(("pine tree", "fir tree"), ("spruce tree",)),
    "bottle": Word(("potion bottle", "potion"), ("potion flask",)),
    "mushroom": Word(("mushroom", "fungus"), ("toadstool",), ("button mushroom",)),
    "chair": Word(("chair", "dining chair"), ("kitchen chair",)),
    "table": Word(("table", "dining table"), ("kitchen table",)),
    "house": Word(("house", "cottage"), ("cabin",), ("farmhouse",)),
    "mug": Word(("mug", "cup"), ("coffee mug",)),
    "rocket": Word(("rocket", "rocket ship"), ("space rocket",)),
    # containers
    "crate": Word(("crate", "shipping crate"), ("cargo crate",)),
    "bucket": Word(("bucket", "pail"), ("water bucket",)),
    "vase": Word(("vase", "flower vase", "urn"), ("ceramic vase",)),
    # furniture
    "stool": Word(("stool", "bar stool"), ("round stool",)),
    "bed": Word(("bed", "single bed", "cot"), ("guest bed",)),
    "shelf": Word(("bookshelf", "bookcase"), ("book rack",)),
    "lamp": Word(("lamp", "floor lamp"), ("standing lamp",)),
    # plants
    "oak": Word(("oak tree", "round tree"), ("leafy tree",)),
    "cactus": Word(("cactus", "potted cactus"), ("cactus plant",)),
    # food
    "apple": Word(("apple", "ripe apple"), ("apple fruit",)),
    "cake": Word(("cake", "birthday cake"), ("layer cake",)),
    "carrot": Word(("carrot", "garden carrot"), ("fresh carrot",)),
    "donut": Word(("donut", "doughnut"), ("ring doughnut",)),
    "icecream": Word(("ice cream cone", "ice cream"), ("gelato cone",)),
    # weapons and tools
    "sword": Word(("sword", "longsword"), ("broadsword",)),
    "hammer": Word(("hammer", "sledgehammer", "mallet"), ("claw hammer",)),
    "axe": Word(("axe", "battle axe", "hatchet"), ("lumberjack axe",)),
    "shield": Word(("shield", "knight shield"), ("heater shield",)),
    # buildings
    "tower": Word(("tower", "castle tower", "watchtower"), ("guard tower",)),
    "tent": Word(("tent", "camping tent"), ("canvas tent",)),
    # vehicles
    "car": Word(("car", "toy car"), ("automobile",)),
    "boat": Word(("sailboat", "boat"), ("sailing boat",)),
    # signs and lights
    "signpost": Word(("signpost", "road sign"), ("direction sign",)),
    "cone": Word(("traffic cone", "road cone"), ("safety cone",)),
    "lantern": Word(("lantern", "oil lantern"), ("camp lantern",)),
    # kinds that no training sees, made of parts that it knows
    "bench": Word(("bench",)),
    "truck": Word(("truck",)),
    "well": Word(("well",)),
}
COLORS: dict[str, Word] = {
    "red": Word(("red", "crimson"), ("scarlet",)),
    "orange": Word(("orange", "tangerine"), ("bright orange",)),
    "yellow": Word(("yellow", "lemon yellow"), ("sunny yellow",)),
    "green": Word(("green", "emerald"), ("leaf green",)),
    "cyan": Word(("cyan", "turquoise"), ("aqua",)),
    "blue": Word(("blue", "royal blue"), ("cobalt blue",)),
    "purple": Word(("purple", "violet"), ("deep purple",)),
    "pink": Word(("pink", "rose pink"), ("hot pink",)),
    "brown": Word(("brown", "chestnut brown"), ("chocolate brown",)),
    "white": Word(("white", "snow white"), ("pure white",)),
    "gray": Word(("gray", "grey"), ("ash gray",)),
    "black": Word(("black", "jet black"), ("pitch black",)),
}
SIZES: dict[str, Word] = {  # "plain" is said by saying nothing
    "plain": Word(("",)),
    "tall": Word(("tall",), ("very tall",)),
    "wide": Word(("wide", "broad"), ("very wide",)),
    "small": Word(("small", "little"), ("tiny",)),
}
MATERIALS: dict[str, Word] = {  # "any" is said by saying nothing
    "any": Word(("",)),
    "wooden": Word(("wooden",)),
    "metal": Word(("metal",)),
    "stone": Word(("stone",)),
    "glossy": Word(("glossy",), ("shiny",)),
}
SECONDS: dict[str, str] = {  # what a prompt calls the part that a second colour paints
    "barrel": "bands", "chest": "bands", "tree": "trunk", "bottle": "neck", "mushroom": "stem", "chair": "cushion",
    "table": "legs", "house": "walls", "mug": "inside", "rocket": "body", "crate": "frame", "bucket": "handle",
    "vase": "band", "stool": "legs", "bed": "frame", "shelf": "books", "lamp": "pole", "oak": "trunk", "cactus": "pot",
    "apple": "leaf", "cake": "icing", "carrot": "leaves", "donut": "dough", "icecream": "cone", "sword": "hilt",
    "hammer": "handle", "axe": "handle", "shield": "rim", "tower": "roof", "tent": "door", "car": "windows",
    "boat": "sail", "signpost": "post", "cone": "stripes", "lantern": "glass", "bench": "legs", "truck": "cab",
    "well": "wall",
}  # fmt: skip
# {thing} is "small red wooden barrel"; the other templates place the words themselves.
TEMPLATES = Word(
    (
        "a {thing}",
        "{thing}",
        "the {thing}",
        "a 3d model of a {thing}",
        "a {thing}, game asset",
        "a low poly {thing}",
        "a {size} {material} {noun} in {color}",
        "a {size} {material} {noun} painted {color}",
    ),
    (
        "a photo of a {thing}",
        "one {thing} on a plain background",
        "please make a {thing}",
        "a {size} {material} {noun} that is {color}",
    ),
)
