-- REINFORCE (Williams 1992): a policy learns to balance a pole on a cart from how long it stood.
-- The carts, many at a time, are a few ops.
--   lua5.4 lua/examples/reinforce.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim = mg.nn, mg.optim
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/reinforce.png"

mg.seed(1)
local CARTS, LONGEST, ROUNDS = 32, quick and 50 or 200, quick and 8 or 120

-- One step, of 0.02 s, of carts in states s (n, 4): place, speed, angle, turning; pushed left
-- (action 1) or right (2) by 10 N. Barto, Sutton and Anderson 1983, as OpenAI's gym has it.
local function push(s, action)
  local _, v, angle, turning = s:unbind(2)
  local force = (action:to "float64" * 2 - 3) * 10
  local sin, cos = angle:sin(), angle:cos()
  local pull = (force + 0.05 * turning ^ 2 * sin) / 1.1
  local turn = (9.8 * sin - cos * pull) / (0.5 * (4 / 3 - 0.1 * cos ^ 2 / 1.1))
  local speed = pull - 0.05 * turn * cos / 1.1
  return s + 0.02 * mg.stack({ v, speed, turning, turn }, 2)
end

local function stands(s)
  return s[{ {}, 1 }]:abs():lt(2.4):logical_and(s[{ {}, 3 }]:abs():lt(math.rad(12)))
end

local policy = nn.Sequential(nn.Linear(4, 64), mg.tanh, nn.Linear(64, 2))
local opt = optim.Adam(policy, { lr = 1e-2 })

-- All carts from near the middle until none stands: states (t, n, 4), actions and who stood (t, n)
local function play()
  local s, standing = mg.rand(CARTS, 4) * 0.1 - 0.05, mg.ones(CARTS)
  local states, actions, alive = {}, {}, {}
  for t = 1, LONGEST do
    local right = policy(s):softmax(2)[{ {}, 2 }]
    local action = mg.rand(CARTS):lt(right):to "int64" + 1
    states[t], actions[t], alive[t] = s, action, standing
    s = push(s, action)
    standing = standing * stands(s):to "float64"
    mg.eval(s, standing, action)
    if t % 10 == 0 and standing:sum():item() == 0 then break end
  end
  return mg.stack(states), mg.stack(actions), mg.stack(alive)
end

-- What is still to come, discounted: (t, n)
local function returns(alive, discount)
  local sums, sum = {}, mg.zeros(CARTS)
  for t = #alive, 1, -1 do
    sum = alive[t] + discount * sum
    sums[t] = sum
  end
  return mg.stack(sums)
end

local curve = {}
for round = 1, ROUNDS do
  local states, actions, alive = mg.no_grad(play)
  local worth = returns(alive, 0.99)
  local count = alive:sum()
  local mean = (worth * alive):sum() / count
  local spread = (((worth - mean) ^ 2 * alive):sum() / count):sqrt()
  local advantage = (worth - mean) / (spread + 1e-8) * alive
  local n = states.shape[1] * CARTS
  local chosen = mg.cross_entropy(policy(states:reshape(n, 4)), actions:reshape(n),
    { reduction = "none" })
  local loss = (chosen * advantage:reshape(n)):sum() / count
  policy:cleargrads()
  loss:backward()
  opt:step()
  curve[round] = count:item() / CARTS
  if round % (ROUNDS // 4) == 0 then
    print(("round %3d: the pole stood %.1f steps of %d"):format(round, curve[round], LONGEST))
  end
end

mg.plot { curve, xlabel = "round", ylabel = "steps", title = "how long the pole stood",
          path = path }
print("the curve is in " .. path)
