std = "lua54"
max_line_length = 100
ignore = {"211/_ENV"}
files["spec"].std = "+busted"
files["spec/bench/report.lua"].max_string_line_length = 120 -- a script of gnuplot's
