"""Names a user may have misspelt."""


def did_you_mean(word: str, known: list[str]) -> str:
    """The remedy for a wrong name: the nearest known one, or all of them."""
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), known, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def known_dataset(dataset: str) -> str:
    """The name of a published data set. Raises :class:`SelectionError` for any other."""
    from amodal_data.errors import SelectionError
    from amodal_data.readers.catalogue import DATASETS

    if dataset not in DATASETS:
        raise SelectionError(f"no data set called {dataset!r}", fix=did_you_mean(dataset, list(DATASETS)))
    return dataset
