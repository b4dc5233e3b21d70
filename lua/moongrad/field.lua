-- field.lua -- what changes together is a list of fields, {n =, table, key, value, ...}, which
-- mg._commit sets, all or none.

return function(fields, t, k, v)
  local n = fields.n
  fields[n + 1], fields[n + 2], fields[n + 3], fields.n = t, k, v, n + 3
end
