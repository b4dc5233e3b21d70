-- anomaly.lua -- where a nan or an infinity came from.

return function(mg)
  local function finite(...)
    for i = 1, select("#", ...) do
      local x = select(i, ...)
      if mg.is_variable(x) then mg._refuse_unfinite(x, "detect_anomaly", "result " .. i) end
    end
    return ...
  end

  mg.define("detect_anomaly(fn: function, ...)",
    "fn(...) with Config.debug on: where a result or a gradient has a nan or an infinity, an " ..
    "error tells the op that made the first, and its line. Slow: each op is computed by itself",
    function(fn, ...) return finite(mg.using_config("debug", true, fn, ...)) end)
end
