-- Every option of every public function does something: given a value of its own, alone and beside
-- each other option that is given, it changes what comes of the call, or is refused.
--
-- What is called with what stands in spec/options.lua. An option that has no value there fails; so
-- does one that makes no difference and is not named there with the reason.

local mg = require "moongrad"
local catalog = require "docs.catalog"
local cases = require "spec.options"

-- ---- what came of a call -----------------------------------------------------------------------

local function text(v, seen)
  if mg.is_variable(v) then
    return ("%s%s%s"):format(v.dtype, v.shape, text(v:totable(), seen))
  elseif type(v) == "number" then
    return math.type(v) == "float" and ("%.17g"):format(v) or tostring(v)
  elseif type(v) ~= "table" then
    return type(v) == "string" and ("%q"):format(v) or type(v) == "boolean" and tostring(v) or
      type(v)
  end
  if seen[v] then return "again" end
  seen[v] = true
  local parts = {}
  for k, w in pairs(v) do parts[#parts + 1] = tostring(k) .. "=" .. text(w, seen) end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

-- The text of what case gives with these options; or nil and the error
local function outcome(case, value, options)
  mg.seed(7)
  local given = {}
  for k, v in pairs(options) do given[k] = getmetatable(v) == cases.Fresh and v.make() or v end
  local results = table.pack(pcall(case.run, value, given))
  if not results[1] then return nil, tostring(results[2]) end
  results.n = nil
  return text(results, {})
end

-- ---- the public names --------------------------------------------------------------------------

-- A list of {path, value, params}: those with something that may be left out
local function all()
  local list = {}
  local function add(path, value, call)
    local params = {}
    for _, p in ipairs(call) do
      if (p.default or p.optional) and not p.skip then params[#params + 1] = p end
    end
    for _, p in ipairs(call.options) do params[#params + 1] = p end
    if #params > 0 then list[#list + 1] = {path = path, value = value, params = params} end
  end
  for _, group in ipairs(catalog.groups()) do
    for _, e in ipairs(group.entries) do
      if e.call then add(e.path, e.value, e.call) end
      for _, m in ipairs(e.members or {}) do
        local path = m.name == "forward" and e.path .. ":forward" or m.path
        if m.call then add(path, m.value, m.call) end
      end
    end
  end
  return list
end

-- The values that option p is tried with
local function values(case, p)
  local given = case.values and case.values[p.name]
  if given == nil then given = cases.values[p.name] end
  if given ~= nil then
    return type(given) == "table" and rawget(given, "n") and table.move(given, 1, given.n, 1, {}) or
      {given}
  end
  if p.type == "bool" then return {p.default ~= "true"} end
  local list = {}
  for choice in p.type:gmatch '"([^"]*)"' do
    if ('"%s"'):format(choice) ~= p.default then list[#list + 1] = choice end
  end
  return p.type:find '^"' and list or {}
end

local function show(v)
  return mg.is_variable(v) and "Variable" or type(v) == "table" and "{...}" or tostring(v)
end

-- Is it known that option name does nothing beside another, or alone? Notes that it was asked.
local function excuse(self, name, beside)
  local known = self.variants.idle[name]
  if type(known) == "table" then
    name, known = name .. " beside " .. (beside or "alone"), known[beside or "alone"]
  end
  self.excused[name] = true
  return known
end

-- The error names an option, or is known
local function explained(variants, err, a, b)
  return err:find(a, 1, true) or b and err:find(b, 1, true) or
    variants.refuses and err:find(variants.refuses)
end

local Try = {}
Try.__index = Try

-- What comes of options in each variant
function Try:outcomes(options)
  local got, errors = {}, {}
  for i, case in ipairs(self.variants) do got[i], errors[i] = outcome(case, self.value, options) end
  return got, errors
end

-- An option that was given made a difference: in some variant something else came of the call than
-- before, or it was refused.
function Try:judge(name, what, before, got, errors, beside)
  local refused, wrong, same
  for i in ipairs(self.variants) do
    if got[i] and before[i] and got[i] ~= before[i] then return end
    if errors[i] and explained(self.variants, errors[i], name, beside) then refused = true
    elseif errors[i] then wrong = errors[i]
    elseif before[i] then same = true end
  end
  if refused then return end
  if same and not excuse(self, name, beside) then
    self.report(("%s: %s makes no difference"):format(what, name))
  elseif wrong and not same then
    self.report(("%s: %s"):format(what, wrong))
  end
end

function Try:run()
  local path, plain, errors = self.path, self:outcomes{}
  local _, err = next(errors)
  if err then return self.report(("%s: %s"):format(path, err)) end
  local singles = {}
  for _, p in ipairs(self.params) do
    local list = values(self.variants, p)
    if #list == 0 then self.report(("%s: no value for option %s"):format(path, p.name)) end
    for _, v in ipairs(list) do
      local a = {name = p.name, value = v, text = ("%s = %s"):format(p.name, show(v))}
      a.got, errors = self:outcomes{[p.name] = v}
      self:judge(p.name, ("%s{%s}"):format(path, a.text), plain, a.got, errors)
      a.fits = next(a.got) ~= nil
      singles[#singles + 1] = a
    end
  end
  for i, a in ipairs(singles) do
    for j = i + 1, #singles do
      local b = singles[j]
      if a.name ~= b.name then
        local what = ("%s{%s, %s}"):format(path, a.text, b.text)
        local got
        got, errors = self:outcomes{[a.name] = a.value, [b.name] = b.value}
        self:judge(b.name, what, a.got, got, errors, a.name)
        self:judge(a.name, what, b.got, got, errors, b.name)
        if next(got) then a.fits, b.fits = true, true end
      end
    end
  end
  for _, a in ipairs(singles) do
    if not a.fits then
      self.report(("%s{%s} is refused whatever else is given"):format(path, a.text))
    end
  end
  for name, known in pairs(self.variants.idle) do
    for beside in pairs(type(known) == "table" and known or {}) do
      if not self.excused[name .. " beside " .. beside] then
        self.report(("%s: %s beside %s does make a difference"):format(path, name, beside))
      end
    end
    if type(known) ~= "table" and not self.excused[name] then
      self.report(("%s: %s does make a difference"):format(path, name))
    end
  end
end

describe("every option", function()
  it("makes a difference, alone and beside each other", function()
    local problems, seen = {}, {}
    local function report(problem) problems[#problems + 1] = problem end
    for _, each in ipairs(all()) do
      local case = cases[each.path]
      seen[each.path] = true
      if not case then
        report(each.path .. ": no case in spec/options.lua")
      elseif case ~= true then
        each.variants, each.report, each.excused = case, report, {}
        setmetatable(each, Try):run()
      end
    end
    for path in pairs(cases) do
      if path:find "[.:]" and not seen[path] then report(path .. ": no such function") end
    end
    assert(#problems == 0, "\n" .. table.concat(problems, "\n"))
  end)
end)
