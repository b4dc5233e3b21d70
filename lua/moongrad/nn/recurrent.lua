-- Recurrent layers with PyTorch's parameter names and shapes: RNN, LSTM, GRU over whole sequences,
-- and the cells that take one step.
--
-- Parameters start from U(-1/sqrt(hidden), 1/sqrt(hidden)).

local mg = require "moongrad"
local module = require "moongrad.nn.module"
local times = require "moongrad.nn.kinds".times
local options_of = require "moongrad.nn.describe"
local Module, Parameter, checked, raise = module.Module, module.Parameter, mg.checked, mg.raise

local layers = {}

local NAMES = {"h", "c"}
local GATES = {tanh = 1, relu = 1, lstm = 4, gru = 3}

local function text(shape) return "(" .. table.concat(shape, ", ") .. ")" end

-- weight_ih, weight_hh, bias_ih and bias_hh of one direction of one layer, with this ending
local function parameters(self, inputs, ending)
  local bound, rows = 1 / math.sqrt(self.hidden_size), times(GATES[self.cell], self.hidden_size)
  local function uniform(...)
    return Parameter((2 * mg.rand{dtype = self.dtype, ...} - 1) * bound)
  end
  self["weight_ih" .. ending] = uniform(rows, inputs)
  self["weight_hh" .. ending] = uniform(rows, self.hidden_size)
  if self.has_bias then
    self["bias_ih" .. ending], self["bias_hh" .. ending] = uniform(rows), uniform(rows)
  end
end

local function run(self, ending, x, h, c, lengths, reverse)
  return mg._recurrent(x, h, c, self["weight_ih" .. ending], self["weight_hh" .. ending],
    self["bias_ih" .. ending], self["bias_hh" .. ending], lengths,
    {cell = self.cell, reverse = reverse or false})
end

-- ---- over sequences ---------------------------------------------------------------------------

local function ending(layer, reverse)
  return "_l" .. layer - 1 .. (reverse and "_reverse" or "")
end

local function build(self, inputs)
  local directions = self.bidirectional and 2 or 1
  for layer = 1, self.num_layers do
    local n = layer == 1 and inputs or directions * self.hidden_size
    parameters(self, n, ending(layer))
    if self.bidirectional then parameters(self, n, ending(layer, true)) end
  end
  self.input_size = inputs
end

-- What a state of `name` has to be, or zeros of it
local function state(self, name, s, shape, dtype)
  if not s then return mg.zeros{dtype = dtype, table.unpack(shape)} end
  if text(s.shape) ~= text(shape) then
    raise("%s: %s has shape %s, expected %s", getmetatable(self).__name, name, text(s.shape),
      text(shape))
  end
  return s
end

-- (N) as int64, checked
local function lengths_of(self, lengths, steps, n)
  local name = getmetatable(self).__name
  if lengths.ndim ~= 1 or lengths.size ~= n then
    raise("%s: lengths has shape %s, expected (%d): one for each sequence", name,
      text(lengths.shape), n)
  end
  if mg._recording() then -- where one is not, f is called, and raises
    local inside = lengths:ge(0):logical_and(lengths:le(steps))
    mg._truth(inside:logical_and(lengths:eq(lengths:floor())):all())
  else
    for i, v in ipairs(lengths:totable()) do
      if v < 0 or v > steps or v ~= math.floor(v) then
        raise("%s: length %g at position %d is not in 0..%d", name, v, i, steps)
      end
    end
  end
  return lengths:to "int64"
end

-- A module's forward, with the state as a list: h, or h and c.
local function forward(self, x, states, lengths)
  local name = getmetatable(self).__name
  if x.ndim ~= 2 and x.ndim ~= 3 then
    raise("%s: x %s: expected %s, or (T, I)", name, text(x.shape),
      self.batch_first and "(N, T, I)" or "(T, N, I)")
  end
  local given, single = x, x.ndim == 2
  if single then x = x:unsqueeze(2)
  elseif self.batch_first then x = x:swapaxes(1, 2) end
  local steps, n, inputs = table.unpack(x.shape)
  if not self.input_size then
    if inputs == 0 then raise("%s: in is 0, expected a positive integer", name) end
    return self:_sized(build, inputs, forward, given, states, lengths)
  elseif inputs ~= self.input_size then
    raise("%s: x has %d features, expected %d", name, inputs, self.input_size)
  end
  lengths = lengths and lengths_of(self, lengths, steps, n)
  local directions, hidden = self.bidirectional and 2 or 1, self.hidden_size
  local shape = {self.num_layers * directions, n, hidden}
  if single then
    shape = {shape[1], hidden}
    for k, s in pairs(states) do states[k] = state(self, NAMES[k], s, shape):unsqueeze(2) end
    shape = {shape[1], 1, hidden}
  end
  local kinds = self.cell == "lstm" and 2 or 1
  local dtype, last = x.dtype, {{}, {}}
  for k = 1, kinds do states[k] = state(self, NAMES[k], states[k], shape, dtype) end
  local seen = lengths and mg.range(1, steps, {dtype = "int64"}):reshape(steps, 1)
    :le(lengths):unsqueeze(3)
  for layer = 1, self.num_layers do
    if layer > 1 and self.dropout > 0 then x = mg.dropout(x, self.dropout) end
    local out = {}
    for d = 1, directions do
      local reverse, i = d == 2, (layer - 1) * directions + d
      local c = kinds == 2 and states[2][i] or nil
      local all = {run(self, ending(layer, reverse), x, states[1][i], c, lengths, reverse)}
      for k = 1, kinds do
        last[k][i] = steps == 0 and states[k][i] or all[k][reverse and 1 or steps]
      end
      out[d] = all[1]
    end
    x = directions == 2 and mg.cat(out, 3) or out[1]
    if seen then x = mg.where(seen, x, 0) end
  end
  for k = 1, kinds do
    last[k] = #last[k] == 1 and last[k][1]:unsqueeze(1) or mg.stack(last[k])
    if single then last[k] = last[k]:squeeze(2) end
  end
  if single then x = x:squeeze(2) elseif self.batch_first then x = x:swapaxes(1, 2) end
  if kinds == 1 then return x, last[1] end
  return x, last[1], last[2]
end

local OPTIONS = "num_layers: int(1..10000) = 1, bias: bool = true, batch_first: bool = false, " ..
  "dropout: number(0..1) = 0, bidirectional: bool = false"

local function sequence(name, cell, doc, options)
  local class = Module:extend(name)
  layers[name] = class

  class.init = checked(("%s(self, [input_size: int(1..),] hidden_size: int(1..), {%s%s})"):format(
    name, OPTIONS, options or ""), doc,
    function(self, inputs, hidden, count, bias, batch_first, dropout, bidirectional, kind)
      self.hidden_size, self.num_layers, self.has_bias = hidden, count, bias
      if dropout > 0 and count == 1 then
        raise("%s: dropout is between layers, and num_layers is 1", getmetatable(self).__name)
      end
      self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
      self.cell, self.dtype = kind or cell, mg.Config.dtype
      if inputs then build(self, inputs) end
    end)

  function class:_infer(find)
    local W = find "weight_ih_l0"
    if not self.input_size and W and W.ndim == 2 then build(self, W.shape[2]) end
  end

  function class:_is_waiting() return not self.input_size end

  function class:_describe()
    local sizes = ("%s, %d"):format(self.input_size or "?", self.hidden_size)
    if self.num_layers > 1 then sizes = sizes .. ", num_layers = " .. self.num_layers end
    if self.bidirectional then sizes = sizes .. ", bidirectional" end
    return options_of(sizes, "bias", self.has_bias, true, "batch_first", self.batch_first, false,
      "dropout", self.dropout, 0, "nonlinearity", self.cell, cell)
  end
  return class
end

local SHAPES = " x (T, N, I) and a state (layers, N, H) give all outputs (T, N, H), then the state"

local RNN = sequence("RNN", "tanh", "h = tanh(W x + b + U h + c);" .. SHAPES,
  ', nonlinearity: "tanh" | "relu" = "tanh"')
RNN.forward = checked("RNN(self, x: float, h: float?, {lengths: float | int64 | uint8?})",
  "all outputs and the last state; outputs past a sequence's length are 0",
  function(self, x, h, lengths) return forward(self, x, {h}, lengths) end)

local GRU = sequence("GRU", "gru", "gated recurrent units, Cho et al. 2014;" .. SHAPES)
GRU.forward = checked("GRU(self, x: float, h: float?, {lengths: float | int64 | uint8?})",
  "all outputs and the last state; outputs past a sequence's length are 0",
  function(self, x, h, lengths) return forward(self, x, {h}, lengths) end)

-- The state may come as PyTorch has it, {h, c}.
local function pair(name, h, c)
  if h == nil and c ~= nil then raise("%s: c is given, but no h", name) end
  if type(h) == "table" and c == nil then
    if #h > 2 then raise("%s: the state has %d values, expected h and c", name, #h) end
    h, c = h[1], h[2]
  end
  if h ~= nil and c == nil then raise("%s: h is given, but no c", name) end
  for k, v in pairs{h = h, c = c} do
    if not mg.is_variable(v) then
      raise("%s: %s is a %s, expected a Variable", name, k, type(v))
    end
  end
  return {h, c}
end

local LSTM = sequence("LSTM", "lstm", "long short-term memory, Hochreiter and Schmidhuber 1997;" ..
  SHAPES .. ", h and c")
LSTM.forward = checked("LSTM(self, x: float, h: variable | list?, c: variable?, " ..
  "{lengths: float | int64 | uint8?})",
  "all outputs, then h and c, the last state; outputs past a sequence's length are 0",
  function(self, x, h, c, lengths) return forward(self, x, pair("LSTM", h, c), lengths) end)

-- ---- one step ---------------------------------------------------------------------------------

local function build_step(self, inputs)
  parameters(self, inputs, "")
  self.input_size = inputs
end

local function step(self, x, states)
  local name = getmetatable(self).__name
  if x.ndim ~= 1 and x.ndim ~= 2 then
    raise("%s: x %s: expected (N, I) or (I)", name, text(x.shape))
  end
  local given, single = x, x.ndim == 1
  if single then x = x:unsqueeze(1) end
  local inputs = x.shape[2]
  if not self.input_size then
    return self:_sized(build_step, inputs, step, given, states)
  elseif inputs ~= self.input_size then
    raise("%s: x has %d features, expected %d", name, inputs, self.input_size)
  end
  local shape = {x.shape[1], self.hidden_size}
  for k = 1, self.cell == "lstm" and 2 or 1 do
    local s = states[k]
    if s and single and s.ndim == 1 then s = s:unsqueeze(1) end
    states[k] = state(self, NAMES[k], s, shape, x.dtype)
  end
  local h, c = run(self, "", x:unsqueeze(1), states[1], states[2])
  local at = single and {1, 1} or 1
  return h[at], c and c[at]
end

local function one_step(name, cell, doc, options)
  local class = Module:extend(name)
  layers[name] = class

  class.init = checked(("%s(self, [input_size: int(1..),] hidden_size: int(1..), " ..
    "{bias: bool = true%s})"):format(name, options or ""), doc,
    function(self, inputs, hidden, bias, kind)
      self.hidden_size, self.has_bias, self.cell = hidden, bias, kind or cell
      self.dtype = mg.Config.dtype
      if inputs then
        parameters(self, inputs, "")
        self.input_size = inputs
      end
    end)

  function class:_infer(find)
    local W = find "weight_ih"
    if not self.input_size and W and W.ndim == 2 then
      parameters(self, W.shape[2], "")
      self.input_size = W.shape[2]
    end
  end

  function class:_is_waiting() return not self.input_size end

  function class:_describe()
    return options_of(("%s, %d"):format(self.input_size or "?", self.hidden_size),
      "bias", self.has_bias, true, "nonlinearity", self.cell, cell)
  end
  return class
end

local RNNCell = one_step("RNNCell", "tanh", "a step of an RNN: x (N, I), h (N, H) give the next h",
  ', nonlinearity: "tanh" | "relu" = "tanh"')
RNNCell.forward = checked("RNNCell(self, x: float, h: float?)", "the next state",
  function(self, x, h) return (step(self, x, {h})) end)

local GRUCell = one_step("GRUCell", "gru", "a step of a GRU: x (N, I), h (N, H) give the next h")
GRUCell.forward = checked("GRUCell(self, x: float, h: float?)", "the next state",
  function(self, x, h) return (step(self, x, {h})) end)

local LSTMCell = one_step("LSTMCell", "lstm",
  "a step of an LSTM: x (N, I), h and c (N, H) give the next h and c")
LSTMCell.forward = checked("LSTMCell(self, x: float, h: variable | list?, c: variable?)",
  "the next h and c",
  function(self, x, h, c) return step(self, x, pair("LSTMCell", h, c)) end)

return layers
