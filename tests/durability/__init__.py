"""What survives: power cuts, failed syncs, SIGKILL, full disks, and a neighbour that dies with the lock in its hand."""
