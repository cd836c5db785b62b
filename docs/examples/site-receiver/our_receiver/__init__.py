"""What our receiver needs of batchacct."""
