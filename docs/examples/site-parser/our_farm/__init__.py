"""What our farm adds to batchacct."""
