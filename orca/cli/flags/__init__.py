"""The options of `orca build`, one file a group: each declares its options and reads them into values."""
