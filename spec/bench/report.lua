-- report.lua -- the bench's figures as a table, on the terminal and in Markdown, and as a picture.
--
-- A result: the row, `figures` by contestant (medians, in the row's unit), `ratio` to the limit and
-- to the best peer ({median, low, high}, quartiles of the rounds), `excess`: what the bound speaks
-- of, divided by the bound, so that up to 1 it is kept.

local report = {}

local NAMES = {torch = "PyTorch", compile = "compiled", jax = "JAX", casadi = "CasADi"}
local COLUMNS = {"moongrad", "limit", "torch", "compile", "jax"}

-- ---- figures ----------------------------------------------------------------------------------

local function quantile(sorted, q)
  local k = 1 + q * (#sorted - 1)
  local i = math.floor(k)
  return sorted[i] + (k - i) * ((sorted[i + 1] or sorted[i]) - sorted[i])
end

-- The median and the quartiles around it.
local function middle(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  return {quantile(sorted, 0.5), quantile(sorted, 0.25), quantile(sorted, 0.75)}
end

local function medians(times)
  local figures = {}
  for name, list in pairs(times) do figures[name] = middle(list)[1] end
  return figures
end

-- Of the medians. The quartiles are the rounds', where what slows both for a while does not show.
local function ratio(a, b)
  local list = {}
  for i = 1, math.min(#a, #b) do list[i] = a[i] / b[i] end
  local m = middle(list)
  return {middle(a)[1] / middle(b)[1], m[2], m[3]}
end

local function best(figures, names)
  local found
  for _, name in ipairs(names) do
    if figures[name] and (not found or figures[name] < figures[found]) then found = name end
  end
  return found
end

local function against(row, r, key, name, text)
  if not row[key] then return end
  r.bound = ("<= %gx %s"):format(row[key], text)
  if name then r.excess = r.figures.moongrad / r.figures[name] / row[key] end
end

function report.plain(row, times)
  local r = {row = row, figures = medians(times), ratio = {}}
  local figures = r.figures
  if times.limit then r.ratio.limit = ratio(times.moongrad, times.limit) end
  r.peer = best(figures, {"torch", "compile", "jax", "casadi"})
  if r.peer then r.ratio.peer = ratio(times.moongrad, times[r.peer]) end
  against(row, r, "limit", times.limit and "limit", "limit")
  against(row, r, "peer", r.peer, "best peer")
  against(row, r, "pytorch", best(figures, {"torch", "compile"}), "PyTorch")
  against(row, r, "eager", times.torch and "torch", "eager")
  against(row, r, "casadi", times.casadi and "casadi", "CasADi")
  against(row, r, "jax", times.jax and "jax", "JAX")
  if row.most then
    r.bound = ("<= %.4g %s"):format(row.most, row.memory and "MB" or row.unit or "ms")
    r.excess = figures.moongrad / row.most
    if row.least then figures.limit = row.least end
  end
  return r
end

-- The most that any size costs per unit, beside what a smaller one does.
local function growth(series, name)
  local least, worst = math.huge, 1
  for _, times in ipairs(series) do
    if not times[name] then return 1 end
    local v = middle(times[name])[1]
    worst = math.max(worst, v / least)
    least = math.min(least, v)
  end
  return worst
end

function report.growth(row, series)
  local ours, machine = growth(series, "moongrad"), growth(series, "limit")
  return {row = row, figures = medians(series[#series]), ratio = {}, series = series,
          bound = ("flat within %gx"):format(row.flat), excess = ours / row.flat,
          note = ("%.2fx, limit %.2fx"):format(ours, machine)}
end

function report.threads(row, times)
  local first, last = row.threads[1], row.threads[#row.threads]
  local function gain(name) return ratio(times[name .. first], times[name .. last])[1] end
  local ours = gain "moongrad"
  return {row = row, figures = {moongrad = middle(times["moongrad" .. last])[1],
                                limit = middle(times["limit" .. last])[1]}, ratio = {},
          bound = (">= %gx faster"):format(row.speedup), excess = row.speedup / ours,
          note = ("%.2fx, limit %.2fx"):format(ours, gain "limit")}
end

-- ---- the table --------------------------------------------------------------------------------

local WIDTHS = {62, 9, 9, 9, 9, 9, 22, 31, 17, 24}
local HEAD = {"case", "moongrad", "limit", "PyTorch", "compiled", "JAX", "/ limit", "/ best peer",
              "bound", "kept"}

local function cells(list)
  local out = {}
  for i, text in ipairs(list) do
    local gap = (" "):rep(WIDTHS[i] - utf8.len(text))
    out[i] = i > 1 and i < 7 and gap .. text or text .. gap
  end
  return "| " .. table.concat(out, " | ") .. " |"
end

-- Three digits.
local function short(v)
  if not v then return "-" end
  return v >= 100 and ("%.0f"):format(v) or v >= 10 and ("%.1f"):format(v) or
         v >= 1 and ("%.2f"):format(v) or v >= 0.1 and ("%.3f"):format(v) or ("%.3g"):format(v)
end

local function spread(t, name)
  if not t then return "-" end
  local text = ("%s (%s..%s)"):format(short(t[1]), short(t[2]), short(t[3]))
  return name and text .. " " .. name or text
end

local function line_of(r)
  local row = r.row
  local title = row[2] .. ", " .. (row.memory and "MB" or row.unit or "ms")
  if r.skipped then return {title, "-", "-", "-", "-", "-", "-", "-", "-", "skipped"} end
  local list = {title}
  for _, name in ipairs(COLUMNS) do list[#list + 1] = short(r.figures[name]) end
  list[#list + 1] = spread(r.ratio.limit)
  list[#list + 1] = spread(r.ratio.peer, NAMES[r.peer])
  list[#list + 1] = r.bound
  local kept = not r.excess and "nothing to compare" or r.excess <= 1 and "yes" or "**no**"
  list[#list + 1] = r.note and kept .. ", " .. r.note or kept
  return list
end

-- On the terminal, lined up
function report.line(r)
  local line = cells(line_of(r))
  return r.skipped and ("%s\n<!-- %s: %s -->"):format(line, r.row[1], r.skipped) or line
end

function report.begin(say) say(cells(HEAD)) end

local function cpu()
  local file <close> = assert(io.open "/proc/cpuinfo")
  local text = file:read "a"
  return text:match "model name%s*:%s*([^\n]+)" .. (text:find "avx512f" and ", AVX-512" or "")
end

-- ---- the picture ------------------------------------------------------------------------------

-- One line a row, from above: moongrad's time through the limit's and through the best peer's.
local function draw(results, path)
  local names, limits, peers, bounds, n = {}, {}, {}, {}, 0
  for i = #results, 1, -1 do
    local r = results[i]
    local a, b = r.ratio and r.ratio.limit, r.ratio and r.ratio.peer
    if a or b then
      n = n + 1
      names[n] = ('"%s" %d'):format(r.row[1]:gsub("_", " "), n)
      local function point(t, v)
        if v then t[#t + 1] = ("%g %g %g %d"):format(v[1], v[2], v[3], n) end
      end
      point(limits, a)
      point(peers, b)
      if r.row.limit then bounds[#bounds + 1] = ("%g %d"):format(r.row.limit, n) end
    end
  end
  if n == 0 then return end
  local function block(name, t)
    return ("$%s << E\n%s\nE\n"):format(name, #t > 0 and table.concat(t, "\n") or "NaN NaN NaN NaN")
  end
  local script = assert(io.open(path .. ".gp", "w"))
  script:write(block("limits", limits), block("peers", peers), block("bounds", bounds), ([[
set terminal svg size 900,%d background "white" font "sans,12"
set output "%s.svg"
set title "%s"
set logscale x
set format x "%%g"
set xlabel "moongrad's time divided by theirs: left of 1 moongrad is faster"
set yrange [0.3:%g]
set ytics (%s)
set grid x y lc rgb "#dddddd"
set key top left opaque
set arrow from 1, graph 0 to 1, graph 1 nohead lc rgb "#666666" lw 1.5
plot $bounds using 1:2 with points pt 2 ps 0.9 lc rgb "#444444" title "bound, of the limit", \
     $peers using 1:4:2:3 with xerrorbars pt 7 ps 0.7 lc rgb "#1f77b4" title "best of PyTorch and JAX", \
     $limits using 1:4:2:3 with xerrorbars pt 5 ps 0.7 lc rgb "#d62728" title "limit: a loop for this alone"
]]):format(110 + 19 * n, path, cpu(), n + 3.7, table.concat(names, ", ")))
  script:close()
  if not os.execute("gnuplot " .. path .. ".gp") then print("no picture: gnuplot failed") end
end

function report.write(results, path, peers, rounds)
  local file <close> = assert(io.open(path .. ".md", "w"))
  local known = {}
  for _, name in ipairs(peers) do known[#known + 1] = NAMES[name] end
  file:write("# Bench\n\n", cpu(), ", 2 threads, ", os.date "%Y-%m-%d", ". Medians of ", rounds,
    " alternating rounds; ratios with their quartiles.\n",
    "The limit is a loop or library call written for the case alone; ",
    "for memory, the least possible.\nPeers: ",
    #known > 0 and table.concat(known, ", ") or "none", ".\n")
  local group
  file:write("\n| ", table.concat(HEAD, " | "), " |\n|---", ("|--:"):rep(5), ("|---"):rep(4), "|\n")
  for _, r in ipairs(results) do
    if r.group ~= group then file:write("| **", r.group, "**", (" |"):rep(10), "\n") end
    group = r.group
    file:write("| ", table.concat(line_of(r), " | "), " |\n")
  end
  draw(results, path)
end

return report
