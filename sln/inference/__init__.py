"""From photos to predictions, and what is made of them: values, pictures, pages, folders of results."""
