#!lua flags=allow-oom
-- ARGV: of each command the number of its words, then the words.
local i = 1
while i <= #ARGV do
  local num_words = tonumber(ARGV[i])
  call(unpack(ARGV, i + 1, i + num_words))
  i = i + num_words + 1
end
