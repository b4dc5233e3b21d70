-- html.lua -- plain HTML: what is common to all pages.

local html = {}

local NAMED = {["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;"}

function html.escape(text) return (text:gsub('[&<>"]', NAMED)) end

-- An id that is one for sure: "x:backward" is "x-backward".
function html.id(path) return (path:gsub("^mg%.", ""):gsub("[^%w_]", "-")) end

-- Prose with `code` and [text](address).
function html.prose(text)
  text = html.escape(text)
  text = text:gsub("`([^`]+)`", "<code>%1</code>")
  text = text:gsub("!%[([^%]]+)%]%(([^)]+)%)", '<img src="%2" alt="%1">')
  text = text:gsub("%[([^%]]+)%]%(([^)]+)%)", '<a href="%2">%1</a>')
  return (text:gsub("%*%*([^*]+)%*%*", "<b>%1</b>"))
end

-- The lines of a screen: what was typed, in bold, and what came.
function html.session(lines)
  local out = {}
  for i, line in ipairs(lines) do
    local prompt, typed = line:match "^(>>?) (.*)$"
    if not prompt then out[i] = html.escape(line)
    else
      out[i] = ('<span class="prompt">%s</span> <b>%s</b>'):format(html.escape(prompt),
                                                                html.escape(typed))
    end
  end
  return '<pre class="session">' .. table.concat(out, "\n") .. "</pre>"
end

-- A program, and what it printed
function html.program(code, output)
  local out = {'<pre class="program">' .. html.escape(code) .. "</pre>"}
  if output and output ~= "" then
    out[2] = '<pre class="output">' .. html.escape(output) .. "</pre>"
  end
  return table.concat(out, "\n")
end

-- chapters: what the line at the top leads to, {address, title}
function html.page(title, body, chapters)
  local links = {}
  for i, c in ipairs(chapters) do links[i] = ('<a href="%s">%s</a>'):format(c[1], c[2]) end
  return ([[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s - moongrad</title>
<link rel="stylesheet" href="style.css">
</head>
<body>
<nav>%s</nav>
<main>
%s
</main>
</body>
</html>
]]):format(html.escape(title), table.concat(links, "\n"), body)
end

return html
