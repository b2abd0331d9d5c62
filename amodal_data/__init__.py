"""Read, check, layer, show, convert, compose and score amodal instance annotations.

Public names are loaded when first used; ``__init__.pyi`` lists them with their homes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
