-- anomaly.lua -- where a nan or an infinity came from.

return function(mg)
  -- Objects, which have a metatable, are no results.
  local function look(x, what, seen)
    if mg.is_variable(x) then return mg._refuse_unfinite(x, "detect_anomaly", what) end
    if type(x) ~= "table" or getmetatable(x) or seen[x] then return end
    seen[x] = true
    for key, v in next, x do
      look(v, what .. (type(key) == "string" and ".%s" or "[%s]"):format(key), seen)
    end
  end

  local function finite(...)
    local seen = {}
    for i = 1, select("#", ...) do look(select(i, ...), "result " .. i, seen) end
    return ...
  end

  mg.define("detect_anomaly(fn: function, ...)",
    "fn(...) with Config.debug on: where a result or a gradient has a nan or an infinity, an " ..
    "error tells the op that made the first, and its line. Slow: each op is computed by itself",
    function(fn, ...) return finite(mg.using_config("debug", true, fn, ...)) end)
end
