"""The board: a page that shows what the restaurant is doing and whether the contract holds; it changes nothing."""
