"""Reports and plots, and the 2012 script cpuhours."""
