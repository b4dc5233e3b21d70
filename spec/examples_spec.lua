-- Every program of lua/examples runs in its quick mode, says what it should and leaves pictures.

local child = require "spec.child"

-- What it prints, among other things. The demo is `make demo`.
local expected = {
  char_gpt = "test loss ",
  char_lstm = "epoch  1: loss ",
  fashion_resnet = "epoch 1: loss ",
  distributed = "epoch 1: loss ",
  gaussian_process = "standard deviation of f: 0.",
  fashion_cnn = "epoch 1: loss ",
  gan = "epoch  1: critic's loss ",
  first_steps = "dy/dx = 3.297443 by backward, 3.297443 by differences",
  hamiltonian_monte_carlo = "mean of x ",
  maml = "after  1 steps on ten points: loss on the whole sine ",
  neural_ode = "kept for the gradient of 200 solutions of 50 steps: 17.3 MiB, checkpointed 0.5",
  optimizers = "LBFGS          loss 0.",
  physics_informed = "largest error 0.",
  reinforce = "the pole stood ",
  sine_rnn = "mean error one step ahead: 0.",
  vae = "epoch 1: loss ",
  goldstein_price = "dz/dx\tvariable(-5376)\ndz/dy\tvariable(8064)\n",
  linear_regression = "300: loss",
  newton = "10\tvariable(1)\n",
  regression = "network  step   300: loss 0.0",
  rosenbrock = "Newton                7 points, the last (1.000000, 1.000000), f = 0",
  sine_lstm = "by itself, off by 0.",
  spiral = "test accuracy 0.",
  tanh_graph = "derivative 4 of tanh at 1:       0.665091",
  taylor_sine = "threshold 1e-15: 8 terms, sin 0.707106781186547",
}

local function quote(s) return "'" .. s .. "'" end

describe("the example", function()
  local listing <close> = assert(io.popen("ls lua/examples"))
  for file in listing:lines() do
    local name = file:match("^(.*)%.lua$")
    if name and name ~= "demo" then
      it(name .. " runs", function()
        local folder = child.folder()
        local text, ok = child.lua(("%s quick %s/a.png %s/b.png"):format(
          quote(child.here .. "/lua/examples/" .. file), folder, folder), folder)
        assert(ok, text)
        assert(expected[name], "say here what it prints")
        assert(text:find(expected[name], 1, true), text)
        local source = child.read(child.here .. "/lua/examples/" .. file)
        assert(select(2, source:gsub("\n", "")) <= 120, "it is too long")
        local pictures = assert(io.popen("ls " .. folder)):read "a"
        for _, picture in ipairs{"a", "b"} do
          local drawn = pictures:find(picture .. "%.png")
          assert.equal(text:find(folder .. "/" .. picture .. ".png", 1, true) ~= nil, drawn ~= nil)
          if drawn then
            assert.equal("\x89PNG", child.read(folder .. "/" .. picture .. ".png"):sub(1, 4))
          end
        end
      end)
    end
  end
end)
