"""What jobs used: what is summed of them, and the sums that are kept, which answer in the place of the rows."""
