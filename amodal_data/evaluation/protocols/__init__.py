"""The protocols, one module each, and the types of errors."""
