"""What a batch carries of a cache."""


def carries_answers(targets):
    """Whether a batch's targets bring a teacher's answers along.

    Example:
    >>> carries_answers({"sample_index": [4]}), carries_answers(None)
    (False, False)
    """
    return isinstance(targets, dict) and "answers" in targets
