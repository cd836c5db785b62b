"""The portal: a read-only web site on the store and its archive."""
