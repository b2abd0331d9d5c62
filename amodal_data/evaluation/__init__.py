"""Score amodal predictions with four protocols: ``amodal``, ``coco``, ``order`` and ``completion``."""
