-- io -- mg.save and mg.load: what a path's ending says is read and written by the file beside this
-- one that is called so.
--
-- A file is written beside its place and renamed when complete, so that no reader and no crash
-- meets half of it. What is read is trusted in nothing: every size is checked against the file
-- before memory is asked for.
--
-- A format has open(reader), which gives what the file holds, and save(writer, ...). Formats that
-- hold arrays by name give a list of entries {name, dtype, dims, read or problem} (or {name, open},
-- which gives one) and the metadata, a table of strings by name; `single` ones one such entry.
-- Others have get(reader, names, ...) and put(writer, x, ...) with options of their own, the
-- signatures `loading` and `saving`.

local mg = require "moongrad"
local json = require "moongrad.io.json"
local tree = require "moongrad.io.tree"
local raise = mg.raise

local files = {}

local FORMATS = {safetensors = "safetensors", npz = "npz", npy = "npy", csv = "csv", tsv = "csv",
                 png = "picture", jpg = "picture", jpeg = "picture"}
local PICKLES = {pt = true, pth = true, bin = true, ckpt = true}
local FORM = "moongrad" -- the metadata that say the form of what was saved

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

local function format_of(op, path)
  if type(path) ~= "string" then
    local kind = mg.is_variable(path) and "Variable" or type(path)
    raise("%s: path must be a string, got %s: it stands before the values", op, kind)
  end
  if path:find "\0" then raise("%s: the path %q has a NUL", op, path) end
  local ending = path:match("%.(%w+)$")
  if op == "load" and PICKLES[ending] then
    local to = path:gsub("%w+$", "safetensors")
    raise("load: %s is a pickle of PyTorch's, which only Python can read; this converts it:\n" ..
      'python3 -c "import sys, torch; from safetensors.torch import save_file; save_file({k: ' ..
      "v.contiguous().clone() for k, v in torch.load(sys.argv[1], 'cpu').items()}, " ..
      'sys.argv[2])" %s %s', path, quote(path), quote(to))
  end
  local plain = path:gsub("%.gz$", "")
  local name = FORMATS[ending] or op == "load" and
    (plain:find "%.idx$" or plain:find "idx%d%-%w+$") and "idx"
  if not name then
    raise('%s: "%s" does not end in .safetensors, .npz, .npy, .csv, .png or .jpg', op, path)
  end
  return require("moongrad.io." .. name)
end

-- ---- saving -----------------------------------------------------------------------------------

local FLOATS = {float64 = true, float32 = true, float16 = true, bfloat16 = true}

-- The kind of a dtype: what it holds comes back of the same kind.
local function kind(dtype)
  return FLOATS[dtype] and "float" or dtype == "bool" and "bool" or "int"
end

-- Gives each array the dtype it is stored with: `dtype`, if it is of its kind (a float dtype for
-- floats, another for whole numbers), or if none of them is.
local function choose(arrays, dtype)
  local some = false
  for _, a in ipairs(arrays) do
    local fits = dtype and kind(dtype) == kind(a.x.dtype)
    a.dtype = fits and dtype or a.x.dtype
    some = some or fits
  end
  if not dtype or some then return end
  for _, a in ipairs(arrays) do a.dtype = dtype end
end

local function check_metadata(t)
  for k, v in pairs(t) do
    if type(k) ~= "string" then raise("save: metadata: a %s is no name", type(k)) end
    if type(v) ~= "string" then
      raise("save: metadata: %s is a %s, expected a string", k, type(v))
    end
    if not utf8.len(k) or not utf8.len(v) then raise("save: metadata: %q is no UTF-8", k) end
    if k == FORM then raise("save: metadata: the name %s is taken", k) end
  end
end

-- The metadata and the form, as JSON; nil: there are none.
local function metadata_text(t, form)
  local names, parts = {}, {}
  for k in pairs(t or {}) do names[#names + 1] = k end
  table.sort(names, mg._before)
  for i, k in ipairs(names) do parts[i] = json.quote(k) .. ":" .. json.quote(t[k]) end
  if form then parts[#parts + 1] = json.quote(FORM) .. ":" .. json.quote(form) end
  return #parts > 0 and "{" .. table.concat(parts, ",") .. "}" or nil
end

local STORAGE = 'dtype: "float64" | "float32" | "float16" | "bfloat16" | "int64" | "int32" | ' ..
  '"int16" | "int8" | "uint64" | "uint32" | "uint16" | "uint8" | "bool"'
local TABLE = mg.signature("save(path: string, x: any, {" .. STORAGE .. ", metadata: table?})")
local SINGLE = mg.signature("save(path: string, x: any, {" .. STORAGE .. "})")

local function save_table(format, ...)
  local path, t, dtype, metadata = TABLE(...)
  check_metadata(metadata or {})
  if mg.is_variable(t) or type(t) ~= "table" then
    raise("save: this kind of file holds a table of Variables by name, got %s",
      mg.is_variable(t) and "a Variable" or "a " .. type(t))
  end
  local arrays, form = tree.encode(t)
  for _, a in ipairs(arrays) do
    if a.name == "__metadata__" then
      raise("save: in .%s the name __metadata__ is not an array's", format.ending)
    end
  end
  choose(arrays, dtype)
  local w <close> = mg._create(path, "save", format.sum)
  format.save(w, arrays, metadata_text(metadata, form))
  w:commit()
end

local function save_single(format, ...)
  local path, x, dtype = SINGLE(...)
  if not mg.is_variable(x) then
    raise("save: a .%s file holds one Variable, got a %s", format.ending, type(x))
  end
  local arrays = {{x = x}}
  choose(arrays, dtype)
  local w <close> = mg._create(path, "save")
  format.save(w, arrays[1])
  w:commit()
end

local function save_other(format, path, ...)
  local w <close> = mg._create(path, "save")
  format.put(w, select(2, format.saving(path, ...)))
  w:commit()
end

-- save(path, x [, options])
function files.save(path, ...)
  local format = format_of("save", path)
  local save = format.put and save_other or format.single and save_single or save_table
  save(format, path, ...)
end

-- ---- loading ----------------------------------------------------------------------------------

local function complete(e) return e.open and not e.problem and e.open() or e end

-- What {list = true} gives prints as lines: of one array "float64 (2, 3)", with names of several.
local Shape = getmetatable(mg.empty().shape)
local Listed = {__tostring = function(t)
  local what = t.dtype and t.shape and ("%s %s"):format(t.dtype, tostring(t.shape))
  return what and t.problem and what .. ": " .. t.problem or what or t.problem
end}
local Listing = {__tostring = function(t)
  local names, width, lines = {}, 0, {}
  for name in pairs(t) do
    names[#names + 1] = name
    width = math.max(width, #name)
  end
  table.sort(names, mg._before)
  for i, name in ipairs(names) do
    lines[i] = name .. (" "):rep(width - #name) .. "  " .. tostring(t[name])
  end
  return table.concat(lines, "\n")
end}

local function listed(e)
  e = complete(e)
  if e.close then e.close() end
  local shape = e.dims and setmetatable(e.dims, Shape)
  return setmetatable({dtype = e.dtype, shape = shape, problem = e.problem}, Listed)
end

-- What cannot be read is told if it was asked for by name, or is all there is; else left out.
local function read(r, e, asked)
  e = complete(e)
  if not e.problem then return e.read() end
  if e.close then e.close() end
  if asked then raise("%s: %s cannot be read: %s", r:label(), e.name or "it", e.problem) end
  io.stderr:write(("moongrad: %s: %s is left out: %s\n"):format(r:label(), e.name, e.problem))
end

local function set_of(names)
  if not names then return nil end
  local set = {}
  for _, name in ipairs(names) do set[name] = true end
  return set
end

local LIST = mg.signature "load(path: string, {list: bool = false})"

local function load_table(format, r, names, ...)
  local _, list = LIST(...)
  local entries, metadata = format.open(r)
  local form, wanted, known, by_name, t = metadata and metadata[FORM], set_of(names), {}, {}, {}
  if metadata then metadata[FORM] = nil end
  for _, e in ipairs(entries) do by_name[e.name] = e end
  if form and not list then
    t = tree.decode(r:label(), form, function(name, inside, asked)
      if not by_name[name] then raise("%s: the array %s is missing", r:label(), name) end
      known[name] = true
      if inside then return read(r, by_name[name], asked) end
    end, wanted)
  end
  for _, e in ipairs(entries) do
    if not known[e.name] and (not wanted or wanted[e.name]) then
      if t[e.name] ~= nil then raise("%s: two things are called %s", r:label(), e.name) end
      if list then t[e.name] = listed(e)
      else t[e.name] = read(r, e, wanted) end
      if wanted then wanted[e.name] = nil end
    end
  end
  local name = next(wanted or {})
  if name then raise("%s: there is no %s in it", r:label(), name) end
  if list then setmetatable(t, Listing) end
  if metadata and next(metadata) ~= nil then return t, metadata end
  return t
end

local function load_single(format, r, names, ...)
  local _, list = LIST(...)
  if names then raise("%s: a .%s file holds one array, and no names", r:label(), format.ending) end
  local e = format.open(r)
  if list then return listed(e) end
  return read(r, e, true)
end

local function load_other(format, r, names, ...)
  return format.get(r, names, select(2, format.loading(...)))
end

-- The names that are asked for, if any, and the options: they share a table.
local function split(given)
  if type(given) == "table" and given.is_module then
    raise("load: argument 2 is a module, expected names and options: model:load(path) gives a " ..
      "model what is in a file")
  elseif type(given) ~= "table" or mg.is_variable(given) then
    return nil, given
  end
  local names, opts = {}, {}
  for k, v in pairs(given) do
    if type(k) == "string" then opts[k] = v
    elseif math.type(k) ~= "integer" or k < 1 or k > #given then
      raise("load: unknown option %s", tostring(k))
    end
  end
  for i = 1, #given do
    local name = given[i]
    if type(name) ~= "string" then
      raise("load: name %d is a %s, expected a string", i, type(name))
    end
    names[i] = name
  end
  return names[1] and names, opts
end

-- load(path [, {"name", ..., options}])
function files.load(path, what, ...)
  local format = format_of("load", path)
  local names, opts = split(what)
  local r <close> = mg._open(path, "load")
  local load = format.get and load_other or format.single and load_single or load_table
  return load(format, r, names, path, opts, ...)
end

mg._docs[files.save] = "save(path, x or {name = x}, {dtype, metadata = {name = \"text\"}})\n" ..
  "by ending .safetensors, .npz or .npy; tables may be nested and hold numbers, strings and " ..
  "booleans; dtype: floats are stored as a float dtype (bfloat16, float16 ...), whole numbers " ..
  "as another (int8 ... uint64), which raises where it cannot hold one; .csv, .tsv: columns of " ..
  "a table, or a 2-d Variable, {columns = {names in order}, header, delimiter}; .png: (H, W), " ..
  "(C, H, W), or a grid of (N, C, H, W), {columns, padding}, floats 0..1 or uint8"
mg._docs[files.load] = "load(path, {\"name\", ..., list = true})\n" ..
  "what save or others wrote, all or the names given, and the metadata if there are any; " ..
  "list: name -> {dtype, shape}, unread; also .idx, idx3-ubyte.gz, and .csv, .tsv, " ..
  "whose columns become Variables or lists of strings, {header, delimiter, missing, dtype}; " ..
  ".png, .jpg: (H, W) or (C, H, W) of uint8, but of floats 0..1 where save was given floats, " ..
  "or by {dtype = \"float32\"}"

return files
