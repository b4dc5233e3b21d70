-- vision.lua -- pictures: channels made pixels and back, and pictures seen through a grid.
--
-- A grid (N, H, W, 2) says where each element of the result comes from, x first, -1 and 1 being the
-- edges of the picture, as in PyTorch.

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where

  local MOST <const> = 1 << 24 -- times as many: their square is an integer

  -- Shi et al., arXiv 1609.05158
  define("pixel_shuffle(x: array, r: int(1..))",
    "x (..., C r^2, H, W) as (..., C, H r, W r): each r^2 channels become r by r pixels",
    function(x, r)
      local s = x.shape
      local n = #s
      if n < 3 or r > MOST or s[n - 2] % (r * r) ~= 0 then
        raise("pixel_shuffle: x must be (..., C r^2, H, W) with r = %d, got shape %s", r,
          args.text(s))
      end
      local b, c, h, w = args.product(s, 1, n - 3), s[n - 2] // (r * r), s[n - 1], s[n]
      s[n - 2], s[n - 1], s[n] = c, h * r, w * r
      return x:reshape(b * c, r, r, h, w):permute(1, 4, 2, 5, 3):reshape(s)
    end)

  define("pixel_unshuffle(x: array, r: int(1..))",
    "x (..., C, H r, W r) as (..., C r^2, H, W), what pixel_shuffle takes back",
    function(x, r)
      local s = x.shape
      local n = #s
      if n < 3 or r > MOST or s[n - 1] % r ~= 0 or s[n] % r ~= 0 then
        raise("pixel_unshuffle: x must be (..., C, H r, W r) with r = %d, got shape %s", r,
          args.text(s))
      end
      local b, c, h, w = args.product(s, 1, n - 3), s[n - 2], s[n - 1] // r, s[n] // r
      s[n - 2], s[n - 1], s[n] = c * r * r, h, w
      return x:reshape(b * c, h, r, w, r):permute(1, 3, 5, 2, 4):reshape(s)
    end)

  -- Zhang et al., arXiv 1707.01083
  define("channel_shuffle(x: array, groups: int(1..))",
    "x (N, C, ...) with the channels of its groups dealt out in turn",
    function(x, groups)
      local s = x.shape
      if #s < 3 or s[2] % groups ~= 0 then
        raise("channel_shuffle: x must be (N, C, ...), C a multiple of %d, got shape %s", groups,
          args.text(s))
      end
      return x:reshape(s[1], groups, s[2] // groups, args.product(s, 3)):swapaxes(2, 3):reshape(s)
    end)

  -- Krizhevsky, Sutskever and Hinton 2012; a window of even size reaches one farther before.
  define("local_response_norm(x: float, size: int(1..), {alpha: number(..) = 1e-4, " ..
    "beta: number(..) = 0.75, k: number(..) = 1})",
    "x / (k + alpha m)^beta, m: the mean of x^2 over `size` neighbouring channels of x (N, C, ...)",
    function(x, size, alpha, beta, k)
      local s = x.shape
      if #s < 3 then
        raise("local_response_norm: x must be (N, C, ...), got shape %s", args.text(s))
      end
      local rest = args.product(s, 3)
      local squares = x:square():reshape(s[1], s[2], rest)
      local sum = squares:pad{0, 0, size // 2, (size - 1) // 2}:unfold(2, size, 1):sum(-1)
      return x / (sum * (alpha / size) + k):reshape(s) ^ beta
    end)

  -- ---- grids ----------------------------------------------------------------------------------

  -- The places of n elements between -1 and 1
  local function places(n, corners, dtype)
    if n == 1 then return mg.zeros{1, dtype = dtype} end
    local end_ = corners and 1 or 1 - 1 / n
    return mg.linspace(-end_, end_, n, {dtype = dtype})
  end

  -- Jaderberg et al., arXiv 1506.02025
  define("affine_grid(theta: float, size: ints(1..), {align_corners: bool = false})",
    "(N, H, W, 2): where matrices theta (N, 2, 3) take a grid, for pictures of size {N, C, H, W}",
    function(theta, size, corners)
      local s = theta.shape
      if #s ~= 3 or s[2] ~= 2 or s[3] ~= 3 or #size ~= 4 or size[1] ~= s[1] then
        raise("affine_grid: theta %s, size %s: expected (N, 2, 3) and {N, C, H, W}", args.text(s),
          args.text(size))
      end
      local h, w = size[3], size[4]
      local x = places(w, corners, theta.dtype):reshape(1, w):expand(h, w)
      local y = places(h, corners, theta.dtype):reshape(h, 1):expand(h, w)
      local grid = mg.stack({x, y, mg.ones_like(x)}, 3):reshape(h * w, 3)
      return grid:matmul(theta:swapaxes(2, 3)):reshape(s[1], h, w, 2)
    end)

  -- What of 1..n the place v from -1 to 1 is, counted in elements and fractions
  local function unscaled(v, n, corners)
    if corners then return (v + 1) * ((n - 1) / 2) + 1 end
    return (v + 1) * (n / 2) + 0.5
  end

  -- v as if mirrored at low and high, as often as need be
  local function mirrored(v, low, high)
    local span = high - low
    if span == 0 then return v * 0 + low end
    local off = (v - low):abs()
    local part, turn = off % (2 * span), span
    return where(part:gt(turn), 2 * span - part, part) + low
  end

  -- At the border the slope is that of outside, 0, as PyTorch's.
  local function within(v, n, padding, corners)
    if padding == "zeros" then return v end
    if padding == "reflection" then
      v = corners and mirrored(v, 1, n) or mirrored(v, 0.5, n + 0.5)
    end
    return where(v:gt(1):logical_and(v:lt(n)), v, v:detach():clamp{min = 1, max = n})
  end

  define("grid_sample(x: float, grid: float, {mode: \"bilinear\" | \"nearest\" = \"bilinear\", " ..
    "padding_mode: \"zeros\" | \"border\" | \"reflection\" = \"zeros\", " ..
    "align_corners: bool = false})",
    "x (N, C, H, W) at the places that grid (N, H', W', 2) names: (N, C, H', W'); " ..
    "align_corners: -1 and 1 are the middles of the outermost elements, else their edges",
    function(x, grid, mode, padding, corners)
      local s, g = x.shape, grid.shape
      if #s ~= 4 or #g ~= 4 or g[4] ~= 2 or g[1] ~= s[1] then
        raise("grid_sample: x %s, grid %s: expected (N, C, H, W) and (N, H', W', 2)",
          args.text(s), args.text(g))
      end
      local n, c, h, w = table.unpack(s)
      local count = g[2] * g[3]
      local flat = x:reshape(n, c, h * w)
      local column = within(unscaled(grid[{{}, {}, {}, 1}], w, corners), w, padding, corners)
      local row = within(unscaled(grid[{{}, {}, {}, 2}], h, corners), h, padding, corners)
      local function at(r, k, weight)
        local inside = r:ge(1):logical_and(r:le(h)):logical_and(k:ge(1)):logical_and(k:le(w))
        local function whole(v) return where(inside, v, 1):to "int64" end -- float32 has not all
        local index = (whole(r) - 1) * w + whole(k)
        index = index:reshape(n, 1, count):expand(n, c, count)
        local picked = flat:gather(3, index):reshape(n, c, g[2], g[3])
        if not weight then return where(inside:unsqueeze(2), picked, 0) end
        return picked * where(inside, weight, 0):unsqueeze(2)
      end
      if mode == "nearest" then                     -- halves to even, counted from 0
        return at((row:detach() - 1):round() + 1, (column:detach() - 1):round() + 1)
      end
      local top, left = row:detach():floor(), column:detach():floor()
      local down, right = row - top, column - left
      return at(top, left, (1 - down) * (1 - right)) + at(top, left + 1, (1 - down) * right) +
        at(top + 1, left, down * (1 - right)) + at(top + 1, left + 1, down * right)
    end)
end
