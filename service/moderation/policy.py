"""Which prompts are refused. Blocks only what is clear; knows no request and no HTTP."""


def check_prompts(prompt: str, negative_prompt: str) -> None:
    """Raises ModerationBlocked with the field as param. The message names the category, never the word."""
    raise NotImplementedError
