-- profile.lua -- mg.profile and mg.launches: what the core has counted and noted, shown.

return function(mg)
  local function show(rows, ...)
    table.sort(rows, function(a, b) return a.time > b.time end)
    local lines, all = {("%8s %12s %14s  %s"):format("calls", "seconds", "bytes", "op")}, 0
    for _, row in ipairs(rows) do
      lines[#lines + 1] = mg._format("%8d %12.6f %14d  %s", row.calls, row.time, row.bytes, row.op)
      all = all + row.time
    end
    lines[#lines + 1] = mg._format("%8s %12.6f %14s  of %.6f", "", all, "", rows.time)
    print(table.concat(lines, "\n"))
    return rows, ...
  end

  local run = mg._profile
  mg.define("profile(fn: function, ...)",
    "calls fn(...), prints and returns where time went, then fn's results: a table of rows " ..
    "{op =, calls =, time =, bytes =} by time, and `time` in all; a row is an op computed when " ..
    "called, or a program of ops computed late; no time is in two rows; bytes: newly allocated",
    function(...) return show(run(...)) end)

  local launches = mg._launches
  mg.define("launches(fn: function, ...)", "calls fn(...), prints and returns as text every " ..
    "launch, a line each, then fn's results: a program of fused ops with its elements, or an op " ..
    "with its shapes, and the bytes it reads and writes, from where to where: #n is the n-th " ..
    "address met, @n stands so far behind the begin of the block of a replay (mg.compile)",
    function(fn, ...)
      local function printed(text, ...)
        print((text:gsub("\n$", "")))
        return text, ...
      end
      return printed(launches(fn, ...))
    end)
end
