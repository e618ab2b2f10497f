"""The cook and the manager: the loop that feeds them, and the ledger that counts each record once."""
