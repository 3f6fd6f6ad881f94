"""What people have, one file each; all of them hand a :class:`~shards.sources.scanned.Scanned` to the packer."""
