-- What is shown of logs and of plots that grow: sessions by name.

return {
  ["Log:scalar"] = [[
log = mg.log "run.jsonl"
for step = 1, 3 do log:scalar("loss", 1 / step, step) end
log:close()
for line in io.lines "run.jsonl" do print(line) end]],
  ["Log:scalars"] = [[
log = mg.log "run.csv"
log:scalars({loss = 0.5, accuracy = 0.9}, 1)
log:close()
for line in io.lines "run.csv" do print(line) end]],
  ["Log:histogram"] = [[
log = mg.log "events"         -- a folder, for TensorBoard
log:histogram("weights", mg.randn(1000), 1)
log:close()]],
  ["Log:image"] = [[
log = mg.log "pictures"
log:image("noise", mg.rand(4, 8, 8), 1)
log:close()]],
  ["Log:text"] = [[
log = mg.log "notes"
log:text("about", "a first try", 1)
log:close()]],
  ["Log:close"] = [[
log = mg.log "closed.jsonl"
log:close()
!log:scalar("loss", 1)]],
  ["Live:add"] = [[
live = mg.plot{{}, live = true, path = "live.svg"}
for step = 1, 5 do live:add(step, 1 / step) end
live:close()]],
  ["Live:close"] = [[
live = mg.plot{{}, live = true, path = "live.svg"}
live:add(1, 2)
live:add(2, 1)
live:close()]],
}
