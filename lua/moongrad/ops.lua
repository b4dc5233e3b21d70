-- ops.lua -- which file of ops, composed of the core's own, defines which names.
--
-- Whatever stands in ops/ is written with differentiable ops and is therefore right at every order.
-- Elementwise chains stay fused as long as nobody asks a pending array for a view (reshape, index,
-- broadcast_to): views come first or last here, reductions directly after the chain.
--
-- A file is read when one of its names is first asked for, of mg or of a Variable; so no program
-- waits for what it does not use. Reading it, function(mg, args), makes nothing but functions.

return {
  {"ops.create", "new arrays", [[as_variable bernoulli eye linspace ones_like rand_like randint
    randn randn_like zeros_like]]},
  {"ops.activation", "elementwise", "glu hardswish logsigmoid nan_to_num selu softplus"},
  {"ops.reduce", "reductions", "allclose count_nonzero equal logsumexp norm prod std var"},
  {"ops.shape", "shape and order", [[chunk diag diagonal expand flatten hstack masked_fill meshgrid
    movedim one_hot pad repeat_interleave roll rot90 sort split squeeze stack swapaxes take_along
    tile topk tril triu unbind unsqueeze vstack]]},
  {"ops.sampling", "sampling", "beta categorical exponential gamma normal poisson shuffle uniform"},
  {"ops.statistics", "statistics", "bincount histogram median quantile unique"},
  {"ops.linalg", "linear algebra",
    "cdist cholesky_solve dot kron lstsq matrix_power outer trace"},
  {"ops.einsum", "linear algebra", "einsum"},
  {"ops.pooling", "pooling", [[adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d
    adaptive_max_pool2d avg_pool1d avg_pool2d interpolate max_pool1d max_pool2d]]},
  {"ops.normalization", "normalization",
    "batch_norm group_norm instance_norm layer_norm rms_norm"},
  {"ops.network", "networks", [[accuracy binary_cross_entropy binary_cross_entropy_with_logits
    cross_entropy dropout embedding huber_loss kl_div l1_loss linear log_softmax mean_squared_error
    nll_loss smooth_l1_loss softmax softmax_cross_entropy]]},
  {"ops.attention", "networks", "scaled_dot_product_attention"},
  {"transform", "gradients", [[grad gradcheck gradients hessian hook hvp jacobian jvp
    numerical_grad tree_leaves tree_map value_and_grad vjp]]},
  {"compile", "gradients", "compile"},
  {"profile", "memory and threads", "launches profile"},
}
