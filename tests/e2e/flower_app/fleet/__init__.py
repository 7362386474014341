"""An app of Flower, as a consortium writes it."""
