-- # Performance
--
-- What is fast by itself, what is not, and how to find out.

local mg = require "moongrad"

-- ## What is fused
--
-- Elementwise ops on more than 512 elements, and the reductions behind them, become one pass
-- over memory, forward and backward. A product, a convolution, sorting and indexing are calls of
-- their own and read their operands as arrays. `mg.launches` prints what a function comes to:

local x, t = mg.rand{1000, 100, dtype = "float32"}, mg.rand{1000, 100, dtype = "float32"}
mg.eval(x, t)
mg.launches(function() return ((x - t) ^ 2):mean():item() end)
mg.launches(function() return x:softmax():log():sum():item() end)

-- So write formulas as they stand; what helps is to read values late. `item` and `print` in the
-- middle of a step end a pass.
--
-- ## What takes the time
--
-- `mg.profile` runs a function and tells how often each kind of launch came and how long it
-- took.

local W = mg.Variable(mg.rand{100, 50, dtype = "float32"})
mg.profile(function()
  for _ = 1, 10 do
    local loss = (x:matmul(W):tanh() ^ 2):mean()
    W:cleargrad()
    loss:backward()
    W.data = W.data - 0.1 * W.grad
  end
  mg.eval(W)
end)

-- ## Rules of thumb
--
-- - float32 is twice as fast as float64 wherever memory or vectors are the limit:
--   `mg.Config.dtype = "float32"` at the top of a script.
-- - One op on a batch beats a loop of ops on its rows: the smaller the arrays, the more the
--   bookkeeping of an op counts, half a microsecond with its gradient.
-- - `mg.no_grad` for what needs no gradients; `mg.tidy` around steps that make much scratch.
-- - `mg.assign({p, m}, {new_p, new_m})` gives several leaves new values in one pass, in place.
-- - Whole sequences belong into `nn.LSTM` and its kin, not into a loop of cells: one call
--   computes them.
-- - `mg.set_num_threads(n)` or `OMP_NUM_THREADS`: the cores that are really there.
--
-- ## How fast it is
--
-- [A run, case by case](guide-speed.html). `make bench` compares with loops written in C for
-- each case alone, and with PyTorch and JAX, on this machine; `make bench ROWS="mse lstm"` some
-- of the cases. A run on two cores of an AMD EPYC:
--
-- ![moongrad's time divided by the limit's and the best peer's](bench.svg)
