-- element(shape, i): the indices of element i of an array of this shape, in C order, as a list.

return function(shape, i)
  local index = {}
  i = i - 1
  for axis = #shape, 1, -1 do
    index[axis], i = i % shape[axis] + 1, i // shape[axis]
  end
  return index
end
