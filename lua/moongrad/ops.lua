-- ops.lua -- which file of ops, composed of the core's own, defines which names.
--
-- Whatever stands in ops/ is written with differentiable ops and is therefore right at every order.
-- Elementwise chains stay fused as long as nobody asks a pending array for a view (reshape, index,
-- broadcast_to): views come first or last here, reductions directly after the chain.
--
-- A file is read when one of its names is first asked for, of mg or of a Variable; so no program
-- waits for what it does not use. Reading it, function(mg, args), makes nothing but functions.

return {
  {"ops.create", "new arrays", [[as_variable bernoulli eye linspace logspace ones_like rand_like
    randint randn randn_like zeros_like]]},
  {"ops.activation", "elementwise", [[celu glu hardshrink hardsigmoid hardswish hardtanh
    logsigmoid nan_to_num prelu selu softplus softshrink]]},
  {"ops.reduce", "reductions", [[allclose count_nonzero diff equal isclose isin logsumexp
    nanmean nansum norm prod std trapezoid var]]},
  {"ops.shape", "shape and order", [[chunk diag diag_embed diagonal expand flatten hstack
    masked_fill meshgrid movedim one_hot pad repeat_interleave roll rot90 sort split squeeze stack
    swapaxes take_along tile topk tril triu unbind unflatten unsqueeze vstack]]},
  {"ops.sampling", "sampling", "beta categorical exponential gamma normal poisson shuffle uniform"},
  {"ops.statistics", "statistics", "bincount histogram median quantile unique"},
  {"ops.linalg", "linear algebra", [[cdist cholesky_solve corrcoef cov cross dot kron lstsq
    matrix_exp matrix_power outer tensordot trace]]},
  {"ops.einsum", "linear algebra", "einsum"},
  {"ops.convolution", "convolution", "conv_transpose3d"},
  {"ops.pooling", "pooling", [[adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d
    interpolate max_pool1d max_pool2d max_pool3d]]},
  {"ops.normalization", "normalization",
    "batch_norm group_norm instance_norm layer_norm rms_norm"},
  {"ops.network", "networks", [[accuracy alpha_dropout bilinear binary_cross_entropy
    binary_cross_entropy_with_logits cross_entropy dropout dropout1d dropout2d dropout3d embedding
    gumbel_softmax huber_loss kl_div l1_loss linear log_softmax mean_squared_error nll_loss
    smooth_l1_loss softmax softmax_cross_entropy softmin]]},
  {"ops.losses", "networks", [[cosine_embedding_loss cosine_similarity ctc_loss gaussian_nll_loss
    hinge_embedding_loss margin_ranking_loss multi_margin_loss multilabel_soft_margin_loss
    normalize pairwise_distance poisson_nll_loss soft_margin_loss triplet_margin_loss]]},
  {"ops.vision", "networks", [[affine_grid channel_shuffle grid_sample local_response_norm
    pixel_shuffle pixel_unshuffle]]},
  {"ops.attention", "networks", "scaled_dot_product_attention"},
  {"transform", "gradients", [[grad gradcheck gradients hessian hook hvp jacobian jvp
    numerical_grad tree_leaves tree_map value_and_grad vjp]]},
  {"compile", "gradients", "compile"},
  {"anomaly", "gradients", "detect_anomaly"},
  {"profile", "memory and threads", "launches profile"},
}
