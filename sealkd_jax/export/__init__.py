"""A trained student for other programs: an NIR graph, a compiled step, or weights with a model card."""
