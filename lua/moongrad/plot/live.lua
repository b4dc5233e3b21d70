-- live.lua -- a picture that is drawn anew while points are added to its curves.

local mg = require "moongrad.core"
local Object = require "moongrad.class"
local field = require "moongrad.field"
local number_of = require "moongrad.number"
local raise, checked = mg.raise, mg.checked

local Live = Object:extend("Live"):_seal "redraws lines closed"

local function options(given, curves)
  local t = {}
  for k, v in pairs(given) do t[k] = v end
  t.live = nil
  for i, c in ipairs(curves) do
    local curve = {}
    for k, v in pairs(type(given[i]) == "table" and given[i] or {}) do curve[k] = v end
    curve[1], curve[2] = c.x, c.y
    t[i] = curve
  end
  return t
end

-- show(options, path): draws them there; text(options): as characters
function Live:init(given, show, text)
  self.given, self.show, self.text, self.curves, self.drawn = given, show, text, {}, os.time()
  for i, curve in ipairs(given) do
    if type(curve) ~= "table" or #curve > 0 then
      raise("plot: layer %d: a live plot begins without points, its curves are {} or {style = ...}",
        i)
    end
  end
  for i = 1, given.labels and #given.labels or 0 do self.curves[i] = {x = {}, y = {}} end
  text(options(given, self:now())) -- what is wrong is said at once
  self.redraws = given.path or os.execute "test -t 1"
end

-- The curves as they are; before there are any an empty one
function Live:now() return #self.curves > 0 and self.curves or {{x = {}, y = {}}} end

function Live:draw()
  self.drawn = os.time()
  local now = options(self.given, self:now())
  if self.given.path or mg._display then return self.show(now) end
  local lines = self.text(now)
  if self.lines then io.write(("\27[%dA\27[J"):format(self.lines)) end
  io.write(lines)
  io.flush()
  self.lines = self.redraws and select(2, lines:gsub("\n", ""))
end

-- A second is the least between two drawings.
Live.add = checked("add(self, x: number, ...: any)",
  "the next point of each curve: add(x, y1, y2, ...); a y may be nil", function(self, x, ...)
    if self.closed then raise("add: this plot was closed") end
    local ys, fields = table.pack(...), {n = 0}
    for i = 1, ys.n do
      local c, y = self.curves[i] or {x = {}, y = {}}, ys[i]
      field(fields, self.curves, i, c)
      if y ~= nil then
        y = number_of("add", "y of curve " .. i, y)
        field(fields, c.x, #c.x + 1, x)
        field(fields, c.y, #c.y + 1, y)
      end
    end
    mg._commit({}, {}, fields)
    if self.redraws and os.time() ~= self.drawn then self:draw() end
  end)

Live.close = checked("close(self)", "draws all points a last time", function(self)
  if not self.closed then self:draw() end
  self.closed = true
end)

function Live:__close() self:close() end

function Live:__tostring() return ("Live(%d curves)"):format(#self.curves) end

return Live
