-- Tokenizers: text as int64 numbers from 1 and back. Each has encode(text), decode(ids), # (how
-- many tokens there are), state() and load_state(t).

local mg = require "moongrad"
local Object = require "moongrad.class"
local field = require "moongrad.field"
local checked, raise = mg.checked, mg.raise

local Tokenizer = Object:extend("Tokenizer")
Tokenizer.is_tokenizer = true

mg._docs[Tokenizer] = "Tokenizer:extend(name)\n" ..
  "a class of tokenizers: with ids(self, text), a table of numbers, token(self, id), a string, " ..
  "and # (__len)"

function Tokenizer:__tostring()
  return ("%s(%d tokens)"):format(getmetatable(self).__name, #self)
end

function Tokenizer:ids()
  raise("encode: %s has no method ids(text)", getmetatable(self).__name)
end

function Tokenizer:token()
  raise("decode: %s has no method token(id)", getmetatable(self).__name)
end

local whole = mg.signature "encode(ids: int64)"

Tokenizer.encode = checked("encode(self, text: string)", "its tokens: int64 (n)",
  function(self, text)
    local ids = self:ids(text)
    return #ids == 0 and mg.zeros { 0, dtype = "int64" } or whole(ids)
  end)

Tokenizer.decode = checked("decode(self, ids: int64)", "the text of these tokens",
  function(self, ids)
    local parts = ids:reshape(ids.size):totable()
    for i, id in ipairs(parts) do
      if id < 1 or id > #self then
        raise("decode: token %d at position %d is not in 1..%d", id, i, #self)
      end
      parts[i] = self:token(id)
    end
    return table.concat(parts)
  end)

-- ---- bytes ------------------------------------------------------------------------------------

local BLOCK = 4096

local function bytes_plus_one(text)
  local list = {}
  for i = 1, #text, BLOCK do
    local block = { text:byte(i, i + BLOCK - 1) }
    for k = 1, #block do list[i + k - 1] = block[k] + 1 end
  end
  return list
end

local ByteTokenizer = Tokenizer:extend("ByteTokenizer"):_seal()

ByteTokenizer.init = checked("ByteTokenizer(self)", "each byte b is token b + 1", function() end)

function ByteTokenizer.ids(_, text) return bytes_plus_one(text) end

function ByteTokenizer.token(_, id) return string.char(id - 1) end

function ByteTokenizer.__len() return 256 end

ByteTokenizer.state = checked("state(self)", "nothing but its kind",
  function() return { kind = "ByteTokenizer" } end)

-- What stands in the state of a tokenizer of this kind, by the signature that it has
local loaded = {
  ByteTokenizer = mg.signature "load_state({kind: string})",
  CharTokenizer = mg.signature "load_state({kind: string, chars: string})",
  BPETokenizer = mg.signature "load_state({kind: string, merges: int64})",
}
local function read_state(t, kind)
  if t.kind ~= kind then
    raise("load_state: this is no state of a %s", kind)
  end
  return select(2, loaded[kind](t))
end

ByteTokenizer.load_state = checked("load_state(self, state: table)", "what state() gave",
  function(self, t)
    read_state(t, "ByteTokenizer")
    return self
  end)

-- ---- characters -------------------------------------------------------------------------------

local CharTokenizer = Tokenizer:extend("CharTokenizer"):_seal()

local function learn(self, text)
  if not utf8.len(text) then raise("CharTokenizer: the text is no UTF-8; take a ByteTokenizer") end
  local known, chars, id = {}, {}, {}
  for c in text:gmatch(utf8.charpattern) do
    if not known[c] then
      known[c] = true
      chars[#chars + 1] = c
    end
  end
  table.sort(chars, function(a, b) return utf8.codepoint(a) < utf8.codepoint(b) end)
  for i, c in ipairs(chars) do id[c] = i end
  self.chars, self.id = chars, id
end

CharTokenizer.init = checked("CharTokenizer(self, text: string)",
  "a token for each character (of UTF-8) that the text has, in order of their codes", learn)

function CharTokenizer:ids(text)
  local list, id, n = {}, self.id, 0
  local _, at = utf8.len(text)
  if at then raise("encode: the text is no UTF-8, at byte %d", at) end
  for c in text:gmatch(utf8.charpattern) do
    n = n + 1
    list[n] = id[c] or raise("encode: %q at character %d is not among the tokens", c, n)
  end
  return list
end

function CharTokenizer:token(id) return self.chars[id] end

function CharTokenizer:__len() return #self.chars end

CharTokenizer.state = checked("state(self)", "its characters, as mg.save wants them",
  function(self) return { kind = "CharTokenizer", chars = table.concat(self.chars) } end)

CharTokenizer.load_state = checked("load_state(self, state: table)", "takes what state() gave",
  function(self, t)
    local chars = read_state(t, "CharTokenizer")
    if not chars then raise("load_state: chars is missing") end
    local new = CharTokenizer(chars)
    if table.concat(new.chars) ~= chars then
      raise("load_state: chars are not in order of their codes, each once")
    end
    mg._commit({}, {}, { n = 6, self, "chars", new.chars, self, "id", new.id })
    return self
  end)

-- ---- byte pairs -------------------------------------------------------------------------------

local BPETokenizer = Tokenizer:extend("BPETokenizer"):_seal()

local PAIR = 1 << 24 -- of a and b: a * PAIR + b

-- Merges never reach across words: a word is its letters or digits or other signs, with the blank
-- before it.
local function words(text)
  local at = 1
  return function()
    if at > #text then return nil end
    local _, last = text:find("^ ?[%a\x80-\xff]+", at)
    if not last then _, last = text:find("^ ?%d+", at) end
    if not last then _, last = text:find("^ ?[^%s%w\x80-\xff]+", at) end
    if not last then _, last = text:find("^%s+", at) end
    local word = text:sub(at, last)
    at = last + 1
    return word
  end
end

-- Replaces a, b by new in a list of ids.
local function merge(ids, a, b, new)
  local n, i = 0, 1
  while i <= #ids do
    n = n + 1
    if ids[i] == a and ids[i + 1] == b then ids[n], i = new, i + 2
    else ids[n], i = ids[i], i + 1 end
  end
  for k = #ids, n + 1, -1 do ids[k] = nil end
end

function BPETokenizer:add(a, b)
  local id = #self.tokens + 1
  self.tokens[id] = self.tokens[a] .. self.tokens[b]
  self.merges[#self.merges + 1] = { a, b }
  self.rank[a * PAIR + b] = id
  return id
end

local function clear(self)
  self.tokens, self.merges, self.rank, self.known = {}, {}, {}, {}
  for b = 0, 255 do self.tokens[b + 1] = string.char(b) end
end

-- The pair that is there most often; of equals the one of the lowest tokens.
local function most_frequent(count)
  local best, most = nil, 1
  for pair, n in pairs(count) do
    if n > most or n == most and best and pair < best then best, most = pair, n end
  end
  return best
end

BPETokenizer.init = checked("BPETokenizer(self, text: string, vocab_size: int(256..))",
  "byte pairs (Sennrich, Haddow and Birch, arXiv 1508.07909): the 256 bytes, and the pairs of " ..
    "tokens that the text has most often, one after the other, within words",
  function(self, text, size)
    clear(self)
    local times, list = {}, {}
    for word in words(text) do
      if not times[word] then list[#list + 1] = word end
      times[word] = (times[word] or 0) + 1
    end
    local count, where, ids = {}, {}, {}
    local function note(w, sign)
      local t, n = ids[w], sign * times[list[w]]
      for i = 1, #t - 1 do
        local pair = t[i] * PAIR + t[i + 1]
        count[pair] = (count[pair] or 0) + n
        if count[pair] == 0 then count[pair] = nil end
        where[pair] = where[pair] or {}
        where[pair][w] = true
      end
    end
    for w, word in ipairs(list) do
      ids[w] = bytes_plus_one(word)
      note(w, 1)
    end
    while #self.tokens < size do
      local pair = most_frequent(count)
      if not pair then break end -- every word is one token, or none comes twice
      local a, b = pair // PAIR, pair % PAIR
      local new = self:add(a, b)
      for w in pairs(where[pair]) do
        note(w, -1)
        merge(ids[w], a, b, new)
        note(w, 1)
      end
      where[pair] = nil
    end
  end)

-- A word's tokens: the pair that was merged first goes first.
local function split(self, word)
  local ids = bytes_plus_one(word)
  while #ids > 1 do
    local best, a, b
    for i = 1, #ids - 1 do
      local id = self.rank[ids[i] * PAIR + ids[i + 1]]
      if id and (not best or id < best) then best, a, b = id, ids[i], ids[i + 1] end
    end
    if not best then break end
    merge(ids, a, b, best)
  end
  return ids
end

function BPETokenizer:ids(text)
  local list, n = {}, 0
  for word in words(text) do
    local ids = self.known[word]
    if not ids then
      ids = split(self, word)
      self.known[word] = ids
    end
    table.move(ids, 1, #ids, n + 1, list)
    n = n + #ids
  end
  return list
end

function BPETokenizer:token(id) return self.tokens[id] end

function BPETokenizer:__len() return #self.tokens end

BPETokenizer.state = checked("state(self)", "its merges, int64 (n, 2), as mg.save wants them",
  function(self)
    local merges = #self.merges == 0 and mg.zeros { 0, 2, dtype = "int64" } or
      mg.tensor(self.merges, "int64")
    return { kind = "BPETokenizer", merges = merges }
  end)

BPETokenizer.load_state = checked("load_state(self, state: table)", "takes what state() gave",
  function(self, t)
    local merges = read_state(t, "BPETokenizer")
    if not merges or merges.ndim ~= 2 or merges.shape[2] ~= 2 then
      raise("load_state: merges is no list of pairs")
    end
    local list, known = merges:totable(), {}
    for i, pair in ipairs(list) do
      if math.min(pair[1], pair[2]) < 1 or math.max(pair[1], pair[2]) > 255 + i then
        raise("load_state: merge %d is of tokens that are not there", i)
      end
      local key = pair[1] * PAIR + pair[2]
      if known[key] then raise("load_state: merge %d is one before it", i) end
      known[key] = true
    end
    local new = BPETokenizer("", 256)
    for _, pair in ipairs(list) do new:add(pair[1], pair[2]) end
    local fields = { n = 0 }
    for k, v in pairs(new) do field(fields, self, k, v) end
    mg._commit({}, {}, fields)
    return self
  end)

return { Tokenizer = Tokenizer, ByteTokenizer = ByteTokenizer, CharTokenizer = CharTokenizer,
         BPETokenizer = BPETokenizer }
