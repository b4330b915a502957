#!lua flags=no-writes
-- Answers what prelude/records.lua tells of models and workers.
return read_fleet()
