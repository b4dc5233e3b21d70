-- linalg.lua -- products beside the core's matmul.

return function(mg, args)
  local define, raise = mg.define, mg.raise

  local function check_vectors(op, a, b)
    if a.ndim ~= 1 or b.ndim ~= 1 then
      raise("%s: %s and %s are not both 1-d", op, args.text(a.shape), args.text(b.shape))
    end
  end

  -- A fused pass: the product never exists as an array.
  define("dot(a: array, b: array)", "inner product of two 1-d Variables", function(a, b)
    check_vectors("dot", a, b)
    if a.size ~= b.size then
      raise("dot: %s and %s differ in length", args.text(a.shape), args.text(b.shape))
    end
    return (a * b):sum()
  end)

  define("outer(a: array, b: array)",
    "(n, m): every element of a times every element of b, both 1-d",
    function(a, b)
      check_vectors("outer", a, b)
      return a:reshape(a.size, 1) * b
    end)
end
