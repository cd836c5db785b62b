"""The ledger read back: the books of every stage, and the story of one job, message or byte."""
