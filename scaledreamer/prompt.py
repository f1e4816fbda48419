"""What a prompt may be, one rule for the library, the command line and the server, and how else to say it."""

import re

from scaledreamer.errors import PromptError

MAX_CHARACTERS = 1000
ARTICLE = re.compile(r"^(an?|the)\s+", re.IGNORECASE)


def check_prompt(prompt: object) -> str:
    """The prompt without surrounding space; refused when it is not text, empty, or too long."""
    if not isinstance(prompt, str):
        raise PromptError(f"a prompt must be text, not {type(prompt).__name__}")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError("the prompt holds half of a surrogate pair; send well-formed Unicode") from error
    if any(ord(c) < 32 and c not in "\t\n\r" for c in prompt):
        raise PromptError("the prompt holds control characters; send plain text")
    prompt = prompt.strip()
    if not prompt:
        raise PromptError("the prompt is empty; describe one object, for example 'a red wooden barrel'")
    if len(prompt) > MAX_CHARACTERS:
        raise PromptError(f"the prompt has {len(prompt)} characters; at most {MAX_CHARACTERS} are read")
    return prompt


def said_otherwise(prompt: str) -> list[str]:
    """Other prompts that ask for the same: for "a mug" "the mug", "a 3d model of a mug" and so on."""
    thing = ARTICLE.sub("", prompt)
    one = f"{'an' if thing[:1].lower() in tuple('aeiou') else 'a'} {thing}"
    said = thing, f"the {thing}", f"a 3d model of {one}", f"{one}, game asset", f"a low poly {thing}"
    return [text for text in said if text != prompt and len(text) <= MAX_CHARACTERS]
