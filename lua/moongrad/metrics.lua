-- mg.metrics: how good predictions are. Labels are 1..K; predictions are labels too, or scores
-- (n, K), whose largest counts. Results are Variables without a gradient.

local mg = require "moongrad"
local checked, raise = mg.checked, mg.raise

local metrics = {}
local MOST = 1 << 28 -- classes: their square is a number of elements

-- Both as int64 (n), and the number of classes
local function read(op, predicted, labels, classes)
  if predicted.ndim == labels.ndim + 1 then
    classes = classes or predicted.shape[predicted.ndim]
    predicted = predicted:argmax(-1)
  end
  if table.concat(predicted.shape, ",") ~= table.concat(labels.shape, ",") then
    raise("%s: predictions (%s) for labels (%s)", op, table.concat(predicted.shape, ", "),
      table.concat(labels.shape, ", "))
  end
  local n = labels.size
  local function whole(x)
    local y = x:reshape(n):to "int64"
    if not y:eq(x:reshape(n)):all():item() then raise("%s: labels must be whole numbers", op) end
    return y
  end
  predicted, labels = whole(predicted), whole(labels)
  if n == 0 then raise("%s: there are no labels", op) end
  local low = math.min(predicted:min():item(), labels:min():item())
  local high = math.max(predicted:max():item(), labels:max():item())
  classes = classes or high
  if low < 1 or high > classes then
    raise("%s: label %d is not in 1..%d", op, low < 1 and low or high, classes)
  elseif classes > MOST then
    raise("%s: %d classes are too many", op, classes)
  end
  return predicted, labels, classes
end

local function confusion(op, predicted, labels, classes)
  local p, t, k = read(op, predicted, labels, classes)
  return mg.bincount((t - 1) * k + p, { minlength = k * k }):reshape(k, k)
end

metrics.confusion_matrix = checked(
  "confusion_matrix(predicted: array, labels: array, {classes: int(1..)?})",
  "int64 (K, K): how often label i (row) was predicted as j (column)",
  function(predicted, labels, classes)
    return mg.no_grad(confusion, "confusion_matrix", predicted, labels, classes)
  end)

-- a / b, and 0 where b is
local function ratio(a, b) return mg.where(b:gt(0), a / mg.maximum(b, 1), 0.0) end

-- By class or their average, of right, predicted and true counts (K)
local function score(name, doc, formula)
  metrics[name] = checked(name .. "(predicted: array, labels: array, " ..
      '{average: "macro" | "micro" | "weighted" | "none" = "macro", classes: int(1..)?})',
    doc .. "; the mean over classes (macro), of all labels together (micro), weighted by how " ..
      "many labels a class has, or of each class (K); 0 where there is nothing to divide by",
    function(predicted, labels, average, classes)
      return mg.no_grad(function()
        local c = confusion(name, predicted, labels, classes):to "float64"
        local right, said, is = mg.diagonal(c), c:sum(1), c:sum(2)
        if average == "micro" then right, said, is = right:sum(), said:sum(), is:sum() end
        local each = formula(right, said, is)
        if average == "macro" then return each:mean() end
        if average == "weighted" then return (each * is):sum() / is:sum() end
        return each
      end)
    end)
end

score("precision", "how many of those predicted as a class are of it",
  function(right, said) return ratio(right, said) end)
score("recall", "how many of a class are predicted as it",
  function(right, _, is) return ratio(right, is) end)
score("f1", "the harmonic mean of precision and recall",
  function(right, said, is) return ratio(2 * right, said + is) end)

metrics.auc = checked("auc(scores: array, labels: array)",
  "the area under the receiver's curve: how often a positive (label not 0) has a higher score " ..
    "than a negative; half for equals",
  function(scores, labels)
    return mg.no_grad(function()
      local n = scores.size
      if labels.size ~= n then raise("auc: %d scores for %d labels", n, labels.size) end
      scores = scores:reshape(n)
      local positive = labels:reshape(n):ne(0):to "float64"
      local ones = positive:sum():item()
      if ones == 0 or ones == n then raise("auc: needs positives and negatives") end
      if mg.isnan(scores):any():item() then raise("auc: a score is nan") end
      -- the rank of a score is the mean of the places that its equals take
      local sorted = scores:sort()
      local rank = (mg.searchsorted(sorted, scores) +
        mg.searchsorted(sorted, scores, { right = true }) - 1):to "float64" / 2
      return ((rank * positive):sum() - ones * (ones + 1) / 2) / (ones * (n - ones))
    end)
  end)

metrics.r2 = checked("r2(predicted: array, targets: array)",
  "1 - sum (t - y)^2 / sum (t - mean t)^2: the part of the targets' variance that is explained",
  function(predicted, targets)
    return mg.no_grad(function()
      if table.concat(predicted.shape, ",") ~= table.concat(targets.shape, ",") then
        raise("r2: predictions (%s) for targets (%s)", table.concat(predicted.shape, ", "),
          table.concat(targets.shape, ", "))
      end
      local t = targets:to "float64"
      if t.size == 0 or t:min():item() == t:max():item() then
        raise("r2: the targets are all the same")
      end
      local all = t - t:mean()
      local scale = all:abs():max()                -- whose square is neither inf nor 0
      return 1 - ((t - predicted) / scale):square():sum() / (all / scale):square():sum()
    end)
  end)

return metrics
