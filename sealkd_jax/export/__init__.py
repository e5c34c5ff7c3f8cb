"""A trained student for other people's programs: as an NIR graph, as a compiled step, as weights with a model card."""
