-- linalg.lua -- products beside the core's matmul.

return function(mg, args)
  local define, raise = mg.define, mg.raise

  local function vectors(op, a, b)
    a, b = args.variable(op, a, "a"), args.variable(op, b, "b")
    if a.ndim ~= 1 or b.ndim ~= 1 then
      raise("%s: %s and %s are not both 1-d", op, args.text(a.shape), args.text(b.shape))
    end
    return a, b
  end

  -- A fused pass: the product never exists as an array.
  define("dot", function(a, b)
    a, b = vectors("dot", a, b)
    if a.size ~= b.size then
      raise("dot: %s and %s differ in length", args.text(a.shape), args.text(b.shape))
    end
    return (a * b):sum()
  end, "dot(a, b)\ninner product of two 1-d Variables")

  define("outer", function(a, b)
    a, b = vectors("outer", a, b)
    return a:reshape(a.size, 1) * b
  end, "outer(a, b)\n(n, m): every element of a times every element of b, both 1-d")
end
