"""The daemon of a node: the kernel's events and the sensor's datagrams become records of processes in a spool."""
