"""Classes for instances that have names only, or a twin in COCO."""
