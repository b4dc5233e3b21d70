-- convolution.lua -- what the core's convolutions do backwards, over three axes.

return function(mg, args)
  local define, raise = mg.define, mg.raise
  local DIMS = {"depth", "height", "width"}

  local function triple(name, v)
    if #v ~= 1 and #v ~= 3 then
      raise("conv_transpose3d: %s has %d numbers, expected one or three", name, #v)
    end
    return #v == 3 and v or {v[1], v[1], v[1]}
  end

  define("conv_transpose3d(x: float, weight: float, bias: float?, {stride: ints(1..) = 1, " ..
    "padding: ints(0..) = 0, output_padding: ints(0..) = 0, groups: int(1..) = 1, " ..
    "dilation: ints(1..) = 1})",
    "what conv3d's gradient does: x (n, c, d, h, w) or (c, d, h, w), weight (c, out / groups, " ..
    "kd, kh, kw): (n, out, ...); bias (out)",
    function(x, weight, bias, stride, padding, more, groups, dilation)
      stride, padding = triple("stride", stride), triple("padding", padding)
      more, dilation = triple("output_padding", more), triple("dilation", dilation)
      local single = x.ndim == 4
      if single then x = x:unsqueeze(1) end
      local s, w, dims = x.shape, weight.shape, {}
      if #s ~= 5 or #w ~= 5 or s[2] ~= w[1] or s[2] % groups ~= 0 then
        raise("conv_transpose3d: x %s and weight %s do not fit: expected (n, c, d, h, w) and " ..
          "(c, out / groups, kd, kh, kw), c a multiple of groups %d", args.text(s), args.text(w),
          groups)
      end
      if bias and (bias.ndim ~= 1 or bias.size ~= w[2] * groups) then
        raise("conv_transpose3d: bias %s does not fit weight %s: expected (%d)",
          args.text(bias.shape), args.text(w), w[2] * groups)
      end
      for i = 1, 3 do
        if more[i] >= stride[i] and more[i] >= dilation[i] then
          raise("conv_transpose3d: output_padding %d must be below stride %d or dilation %d",
            more[i], stride[i], dilation[i])
        end
        dims[i] = (s[i + 2] - 1) * stride[i] + (w[i + 2] - 1) * dilation[i] + more[i] + 1 -
          2 * padding[i]
        if dims[i] < 1 or s[i + 2] == 0 then
          raise("conv_transpose3d: padding %d leaves nothing of the %s of x %s and weight %s",
            padding[i], DIMS[i], args.text(s), args.text(w))
        end
      end
      local y = mg._convolve_data(x, weight, dims, stride, dilation, padding, groups)
      if bias then y = y + bias:reshape(bias.size, 1, 1, 1) end
      return single and y:squeeze(1) or y
    end)
end
