"""peers.py -- the bench's cases in PyTorch, eager and compiled, in JAX under jit, and some in CasADi.

Started and spoken to like moongrad.lua, which says how, with the peer's name in front:
  peers.py torch|compile|jax|casadi POOL time|memory THREADS TIMES case dtype ...
Most cases are one function for all three, `mx` standing for the library. What a peer does not do
is skipped, and why is said.
"""
import ctypes, gc, gzip, math, os, subprocess, sys, time
import numpy as np

peer, POOL, mode, threads, times, name = sys.argv[1:7]
words = [int(w) if w.isdigit() else w for w in sys.argv[7:]]
SIZE = 1 << 24


class Skip(Exception):
    pass


def only(*peers):
    if peer not in peers:
        raise Skip("only in " + ", ".join(peers))


FIRST = {  # the program of case.start
    "torch": "import torch; x = torch.tensor(2.0, requires_grad=True); y = x**4 - 2*x**2; "
             "y.backward(); assert x.grad.item() == 24",
    "compile": "import torch; x = torch.tensor(2.0, requires_grad=True); "
               "y = torch.compile(lambda x: x**4 - 2*x**2)(x); y.backward(); "
               "assert x.grad.item() == 24",
    "jax": "import jax; assert jax.jit(jax.grad(lambda x: x**4 - 2*x**2))(2.0) == 24"}

if name == "start":
    pass
elif peer == "jax":
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_enable_x64", True)
elif peer == "casadi":
    if name not in ("goldstein", "chain"):
        sys.exit(print("skip CasADi is for graphs of numbers"))
    import casadi
else:
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(int(threads))

# ---- what the libraries call differently, under one name ----------------------------------------


class Torch:
    """With `wrap`, which is torch.compile or nothing, around what is run again and again."""
    def wrap(f): return torch.compile(f, dynamic=False) if peer == "compile" else f
    def array(a): return torch.from_numpy(a)
    def column_sum(x): return x.sum(0)
    def var(x): return x.var(1)
    def norm(x): return torch.linalg.vector_norm(x, dim=1)
    def cdist(x, y): return torch.cdist(x, y)
    def cross_entropy(x, t): return F.cross_entropy(x, t)
    def layer_norm(x, w, b): return F.layer_norm(x, x.shape[-1:], w, b)
    def batch_norm(mean, var):
        return lambda x, w, b: F.batch_norm(x, mean, var, w, b, training=True)

    def max_pool(x): return F.max_pool2d(x, 2)
    def scatter_add(x, i, s): return x.scatter_add(0, i, s)
    def take(W, i): return F.embedding(i, W)
    def conv(x, w, b, p): return F.conv2d(x, w, b, padding=p)
    def im2col(x, k, p): return F.unfold(x, k, padding=p)

    def free(f, *inputs):
        f = Torch.wrap(f)

        def step():
            with torch.no_grad():
                return (f(*inputs),)
        return step

    def gradient(leaves, f, constants=(), seed=None):
        for x in leaves:
            x.requires_grad_()
        f, ones = Torch.wrap(f), None

        def step():
            nonlocal ones
            for x in leaves:
                x.grad = None
            y = f(*leaves, *constants)
            if ones is None:
                ones = torch.ones_like(y)
            y.backward(ones if seed is None else seed)
            return y.detach(), *(x.grad for x in leaves)
        return step


class Jax:
    def wrap(f): return jax.jit(f)
    def array(a): return jnp.asarray(a)
    def column_sum(x): return x.sum(0)
    def var(x): return x.var(1, ddof=1)
    def norm(x): return jnp.linalg.norm(x, axis=1)
    def cdist(x, y): return jnp.linalg.norm(x[:, None] - y[None], axis=-1)
    def scatter_add(x, i, s): return x.at[i, jnp.arange(x.shape[1])[None]].add(s)
    def take(W, i): return W[i]

    def cross_entropy(x, t):
        picked = jnp.take_along_axis(x, t[:, None], 1)[:, 0]
        return (jax.nn.logsumexp(x, axis=1) - picked).mean()

    def layer_norm(x, w, b):
        c = x - x.mean(-1, keepdims=True)
        return c * jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + 1e-5) * w + b

    def batch_norm(mean, var):      # these stay as they are: JAX updates nothing in place
        def f(x, w, b):
            c = x - x.mean((0, 2, 3), keepdims=True)
            scale = jax.lax.rsqrt((c * c).mean((0, 2, 3), keepdims=True) + 1e-5)
            return c * scale * w[:, None, None] + b[:, None, None]
        return f

    def max_pool(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def conv(x, w, b, p):
        y = jax.lax.conv_general_dilated(x, w, (1, 1), [(p, p)] * 2,
                                         dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return y if b is None else y + b[:, None, None]

    def im2col(x, k, p):
        y = jax.lax.conv_general_dilated_patches(x, (k, k), (1, 1), [(p, p)] * 2)
        return y.reshape(*y.shape[:2], -1)

    def free(f, *inputs, jit=True):
        f = jax.jit(f) if jit else f
        return lambda: jax.block_until_ready((f(*inputs),))

    def gradient(leaves, f, constants=(), seed=None, jit=True):
        def both(leaves, constants, seed):
            y, back = jax.vjp(lambda *v: f(*v, *constants), *leaves)
            return y, *back(jnp.ones_like(y) if seed is None else seed)
        both = jax.jit(both) if jit else both
        return lambda: jax.block_until_ready(both(leaves, constants, seed))


class Casadi:
    """Its virtual machine in a loop of its own: so many evaluations are one step."""
    def array(a): return a

    def gradient(leaves, f):
        xs = [casadi.SX.sym("x") for _ in leaves]
        y = f(*xs)
        n = max(leaves[0].size, 1000)
        g = casadi.Function("f", xs, [y] + [casadi.gradient(y, x) for x in xs]).map(n)
        values = [np.resize(a, (1, n)).astype(np.float64) for a in leaves]

        def step():
            return [np.asarray(r)[0, :leaves[0].size] for r in g.call(values)]
        step.evaluations = n // leaves[0].size
        return step


lib = {"jax": Jax, "casadi": Casadi}.get(peer, Torch)

# ---- inputs -----------------------------------------------------------------------------------

at = 0


def numbers(*shape):
    global at
    n = math.prod(shape)
    if at + n > SIZE:
        at = 0
    v = np.fromfile(POOL, np.float32, min(n, SIZE), offset=4 * at)
    at += n
    return np.resize(v, n).reshape(shape)


made = []


def array(dtype, *shape, scale=1):
    v = numbers(*shape).astype(np.float32 if dtype == "f32" else np.float64)
    made.append(lib.array(v if scale == 1 else (v / scale).astype(v.dtype)))
    return made[-1]


def labels(n, *shape):
    v = np.abs(numbers(*shape).astype(np.float64)) * 2**20
    return lib.array(np.floor(v).astype(np.int64) % n)


# ---- the cases --------------------------------------------------------------------------------


class case:
    def start(dtype):
        env = dict(os.environ, TORCHINDUCTOR_FORCE_DISABLE_CACHES="1")
        return lambda: subprocess.run([sys.executable, "-c", FIRST[peer]], env=env, check=True) and ()

    def square(dtype, n):
        return lib.free(lambda x: ((x * x) ** 2) ** 2, array(dtype, n))

    def square_grad(dtype, n):
        return lib.gradient([array(dtype, n)], lambda x: ((x ** 2) ** 2) ** 2)

    def mse(dtype, n):
        return lib.gradient([array(dtype, n)], lambda x, t: ((x - t) ** 2).mean(),
                            [array(dtype, n)])

    def mixed(dtype, n):
        return lib.gradient([array(dtype, n)], lambda x: (
            mx.tanh(x) * sigmoid(x) + mx.exp(-x ** 2)).sum())

    def tanh(dtype, n, times, lean=None):
        def f(y):
            for _ in range(times):
                y = mx.tanh(y)
            return y
        if lean and peer == "jax":
            raise Skip("no lean mode")
        return lib.gradient([array(dtype, n)], f)

    def affine(dtype, n, times):
        def f(y):
            for _ in range(times):
                y = y * 1.01 + 0.5
            return y
        return lib.gradient([array(dtype, n)], f, (), array(dtype, n))

    def cross_entropy(dtype, n, classes):
        return lib.gradient([array(dtype, n, classes)], lib.cross_entropy, [labels(classes, n)])

    def layer_norm(dtype, n, m):
        return lib.gradient([array(dtype, n, m), array(dtype, m), array(dtype, m)],
                            lib.layer_norm, (), array(dtype, n, m))

    def batch_norm(dtype, n, c, h, w):
        leaves = [array(dtype, n, c, h, w), array(dtype, c), array(dtype, c)]
        f = lib.batch_norm(array(dtype, c), array(dtype, c) ** 2)
        return lib.gradient(leaves, f, (), array(dtype, n, c, h, w))

    def max_pool(dtype, n, c, h, w):
        return lib.gradient([array(dtype, n, c, h, w)], lib.max_pool, (),
                            array(dtype, n, c, h // 2, w // 2))

    def conv(dtype, n, c, size, f, k, p):
        return lib.free(lambda x, w, b: lib.conv(x, w, b, p), array(dtype, n, c, size, size),
                        array(dtype, f, c, k, k), array(dtype, f))

    def conv_grad(dtype, n, c, size, f, k, p):
        out = size + 2 * p - k + 1
        return lib.gradient([array(dtype, n, c, size, size), array(dtype, f, c, k, k),
                             array(dtype, f)], lambda x, w, b: lib.conv(x, w, b, p), (),
                            array(dtype, n, f, out, out))

    def im2col(dtype, n, c, size, k, p):
        return lib.free(lambda x: lib.im2col(x, k, p), array(dtype, n, c, size, size))

    def sum(dtype, n, m, way):
        f = {"columns": lambda x: x.sum(0), "rows": lambda x: x.sum(1),
             "all": lambda x: x.sum(), "transposed": lambda x: x.T.sum(0)}[way]
        return lib.free(f, array(dtype, n, m))

    def var(dtype, n, m):
        return lib.free(lib.var, array(dtype, n, m))

    def norm(dtype, n, m):
        return lib.gradient([array(dtype, n, m)], lib.norm, (), array(dtype, n))

    def vanish(dtype, n):
        return lib.free(mx.exp, array(dtype, n) * 50 - 1000)

    def cdist(dtype, n, m):
        return lib.gradient([array(dtype, n, m), array(dtype, n, m)], lib.cdist, (),
                            array(dtype, n, n))

    def argmax(dtype, n, m):
        return lib.free(lambda x: x.argmax(1), array(dtype, n, m))

    def add(dtype, n, m, way):
        shape = (m,) if way == "row" else (n, 1)
        return lib.gradient([array(dtype, n, m), array(dtype, *shape)], lambda x, r: x + r, (),
                            array(dtype, n, m))

    def slices(dtype, times, n, m):
        def f(x):
            h = x[0] ** 2
            for t in range(1, times):
                h = h * 0.9 + x[t] ** 2
            return h
        return lib.gradient([array(dtype, times, n, m)], f, (), array(dtype, n, m))

    def gather(dtype, rows, width, n):
        return lib.gradient([array(dtype, rows, width)], lib.take, [labels(rows, n)],
                            array(dtype, n, width))

    def scatter(dtype, n, m):
        return lib.free(lib.scatter_add, array(dtype, n, m), labels(n, n, m), array(dtype, n, m))

    def scalar(dtype, n, grad=True):
        def f(x):
            y = x
            for _ in range(n // 2):
                y = y * 0.9 + x
            return y
        only("torch", "jax")   # the chain as a whole is not what is measured: nothing is compiled
        x = lib.array(np.array(0.5))
        how = {"jit": False} if peer == "jax" else {}
        return lib.gradient([x], f, **how) if grad else lib.free(f, x, **how)

    def scalar_free(dtype, n):
        return case.scalar(dtype, n, False)

    def vector(dtype, n):
        def f(y, a, b):
            for _ in range(5):
                y = mx.sin(y * a + b) * y
            return y
        return lib.gradient([array(dtype, n), array(dtype, n), array(dtype, n)], f)

    def goldstein(dtype):
        def f(x, y):
            return ((1 + (x + y + 1)**2 * (19 - 14*x + 3*x**2 - 14*y + 6*x*y + 3*y**2)) *
                    (30 + (2*x - 3*y)**2 * (18 - 32*x + 12*x**2 + 48*y - 36*x*y + 27*y**2)))
        return lib.gradient([lib.array(np.array(1.0)), lib.array(np.array(1.0))], f)

    def chain(dtype, n, points=None):
        def f(x):
            y = x
            for _ in range(n // 2):
                y = mx.sin(y * 1.1)
            return y
        only("torch", "jax", "casadi")
        x = array(dtype, points) if points else lib.array(np.array(0.5))
        return lib.gradient([x], f)

    def network(dtype, sizes):
        p = []
        for i, o in zip(sizes, sizes[1:]):
            p += [array(dtype, o, i, scale=math.sqrt(i)),
                  lib.array(np.zeros(o, np.float32 if dtype == "f32" else np.float64))]
        return p

    def pinn(dtype, n):
        p, x, t = case.network(dtype, (2, 32, 32, 1)), array(dtype, n, 1), array(dtype, n, 1)
        if peer == "jax":
            def u(p, x, t):
                return applied(p, jnp.stack([x, t]))[0]

            def loss_of(p, x, t):
                def at(x, t):
                    u_x = jax.grad(u, 1)
                    return (jax.grad(u, 2)(p, x, t) + u(p, x, t) * u_x(p, x, t) -
                            0.01 * jax.grad(u_x, 1)(p, x, t))
                return (jax.vmap(at)(x[:, 0], t[:, 0]) ** 2).mean()
            return jax_training(loss_of, p, (x, t), "Adam")
        only("torch")
        opt = optimizer(p, "Adam")
        x.requires_grad_(), t.requires_grad_()

        def step():
            u = applied(p, torch.cat([x, t], 1))
            u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
            u_xx, = torch.autograd.grad(u_x.sum(), x, create_graph=True)
            loss = (u_t + u * u_x - 0.01 * u_xx).square().mean()
            opt.zero_grad()
            loss.backward(inputs=p)
            opt.step()
            return loss.detach(), p[0].detach()
        return step

    def ode(dtype, n, steps):
        p, start = case.network(dtype, (2, 32, 2)), array(dtype, n, 2)
        h = 1 / steps

        def f(*p):
            def rk4(y):
                a = applied(p, y)
                b = applied(p, y + a * (h / 2))
                c = applied(p, y + b * (h / 2))
                d = applied(p, y + c * h)
                return y + (a + 2 * b + 2 * c + d) * (h / 6)
            y = start
            if peer == "jax":
                y = jax.lax.fori_loop(0, steps, lambda _, y: rk4(y), y)
            else:
                for _ in range(steps):
                    y = rk4(y)
            return (y ** 2).sum()
        only("torch", "jax")
        return lib.gradient(p, f)

    def derivative(dtype, n, order):
        x = array(dtype, n)
        if peer == "jax":
            f = jnp.tanh
            for _ in range(order):
                f = (lambda g: jax.grad(lambda x: g(x).sum()))(f)
            return lib.free(f, x)
        only("torch")
        x.requires_grad_()

        def step():
            y = x.tanh()
            for i in range(order):
                y, = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=i < order - 1)
            return (y,)
        return step

    def matmul(dtype, batch, n, m, k):
        lead = () if batch == 1 else (batch,)
        return lib.free(lambda a, b: a @ b, array(dtype, *lead, n, k), array(dtype, *lead, k, m))

    def linalg(dtype, name, batch, n):
        x = array(dtype, n, n) if batch == 1 else array(dtype, batch, n, n)
        one = lib.array(np.eye(n).astype(np.float32 if dtype == "f32" else np.float64))
        A = x @ x.swapaxes(-1, -2) / n + one
        linalg = jnp.linalg if peer == "jax" else torch.linalg
        if name == "solve":
            return lib.free(linalg.solve, A, x)
        if name == "svd":
            return lib.free(lambda A: linalg.svd(A, full_matrices=False)[1], A)
        return lib.free(lambda A: linalg.eigh(A)[0] if name == "eigh" else linalg.cholesky(A), A)

    def gaussian(dtype, n):
        x, y, p = array(dtype, n, 3), array(dtype, n), array(dtype, 5, scale=10)
        one = lib.array(np.eye(n))

        def likelihood(p, x, y, one):
            z = x / mx.exp(p[:3])
            squares = (z * z).sum(1)
            d = squares[:, None] + squares - 2 * z @ z.T
            d = jnp.maximum(d, 0) if peer == "jax" else d.clamp(min=0)
            K = mx.exp(p[3]) * mx.exp(-0.5 * d) + mx.exp(p[4]) * one
            if peer == "jax":
                L = jnp.linalg.cholesky(K)
                a = jax.scipy.linalg.cho_solve((L, True), y)
                return 0.5 * y @ a + jnp.log(jnp.diagonal(L)).sum()
            L = torch.linalg.cholesky(K)
            a = torch.cholesky_solve(y[:, None], L)[:, 0]
            return 0.5 * y @ a + L.diagonal().log().sum()
        return lib.gradient([p], likelihood, (x, y, one))

    # Adam: PyTorch eager takes its default, compiled the fused one; JAX's is written out.
    def mlp(dtype, n, activation, rule):
        size = (784, 1000, 1000, 10)
        act = sigmoid if activation == "sigmoid" else relu
        p = []
        for i in range(3):
            p += [array(dtype, size[i + 1], size[i], scale=math.sqrt(size[i])),
                  lib.array(np.zeros(size[i + 1], np.float32))]
        x, t = array(dtype, n, 784), labels(10, n)

        def loss_of(p, x, t):
            h = act(x @ p[0].T + p[1])
            return lib.cross_entropy(act(h @ p[2].T + p[3]) @ p[4].T + p[5], t)
        if peer == "jax":
            return jax_training(loss_of, p, (x, t), rule)

        def net(p, x, t):
            h = act(F.linear(x, p[0], p[1]))
            return F.cross_entropy(F.linear(act(F.linear(h, p[2], p[3])), p[4], p[5]), t)
        loss_of, opt = lib.wrap(net), optimizer(p, rule)

        def step():
            loss = loss_of(p, x, t)
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss.detach(), p[0].detach()
        return step

    def lenet(dtype, n):
        p = []
        for s in ((20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)):
            p += [array(dtype, *s, scale=math.sqrt(math.prod(s[1:]))),
                  lib.array(np.zeros(s[0], np.float32))]
        x, t = array(dtype, n, 1, 28, 28), labels(10, n)

        def net(p, x, t):
            h = lib.max_pool(relu(lib.conv(x, p[0], p[1], 0)))
            h = lib.max_pool(relu(lib.conv(h, p[2], p[3], 0))).reshape(n, -1)
            return lib.cross_entropy(relu(h @ p[4].T + p[5]) @ p[6].T + p[7], t)
        if peer == "jax":
            return jax_training(net, p, (x, t), "momentum")
        loss_of, opt = lib.wrap(net), optimizer(p, "SGD", momentum=0.9)

        def step():
            loss = loss_of(p, x, t)
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss.detach(), p[0].detach()
        return step

    def residual(dtype, blocks, c, size, n):
        p = []
        for _ in range(2 * blocks):
            p += [array(dtype, c, c, 3, 3, scale=math.sqrt(9 * c)),
                  lib.array(np.ones(c, np.float32)), lib.array(np.zeros(c, np.float32))]
        x = array(dtype, n, c, size, size)
        norms = [lib.batch_norm(lib.array(np.zeros(c, np.float32)), lib.array(np.ones(c, np.float32)))
                 for _ in range(2 * blocks)]

        def net(p, x):
            for i in range(0, 2 * blocks, 2):
                w = p[3 * i:3 * i + 6]
                h = relu(norms[i](lib.conv(x, w[0], None, 1), w[1], w[2]))
                x = relu(x + norms[i + 1](lib.conv(h, w[3], None, 1), w[4], w[5]))
            return (x * x).mean()
        if peer == "jax":
            return jax_training(net, p, (x,), "momentum")
        loss_of, opt = lib.wrap(net), optimizer(p, "SGD", momentum=0.9)

        def step():
            loss = loss_of(p, x)
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss.detach(), p[0].detach()
        return step

    def adam(dtype, arrays, n):
        p = [array(dtype, n) for _ in range(arrays)]
        g = [array(dtype, n) for _ in range(arrays)]
        if peer == "jax":
            step = jax_training(None, p, g, "Adam")
            return lambda: step()[1:]
        opt = optimizer(p, "Adam")
        for q, d in zip(p, g):
            q.grad = d

        def step():
            opt.step()
            return (p[0].detach(),)
        return step

    def attention(dtype, batch, heads, n, width, causal):
        shape = batch, heads, n, width
        q, k, v = array(dtype, *shape), array(dtype, *shape), array(dtype, *shape)
        seen = causal == "causal"
        if peer == "jax":
            def f(q, k, v):
                s = jnp.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(width)
                s = jnp.where(jnp.tril(jnp.ones((n, n), bool)), s, -jnp.inf) if seen else s
                return jax.nn.softmax(s) @ v
        else:
            def f(q, k, v):
                return F.scaled_dot_product_attention(q, k, v, is_causal=seen)
        return lib.gradient([q, k, v], f)

    def lstm(dtype, steps, batch, hidden, vocabulary):
        only("torch", "compile")

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.embed = torch.nn.Embedding(vocabulary, hidden)
                self.lstm = torch.nn.LSTM(hidden, hidden)
                self.out = torch.nn.Linear(hidden, vocabulary)

            def forward(self, x):
                return self.out(self.lstm(self.embed(x))[0])
        net = fill(Net(), dtype, 0.05)
        x, t = labels(vocabulary, steps, batch), labels(vocabulary, steps * batch)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        loss_of = lib.wrap(lambda: F.cross_entropy(net(x).reshape(-1, vocabulary), t))
        return training(opt, loss_of, net.lstm.weight_hh_l0)

    def gpt(dtype, layers, width, heads, length, batch, vocabulary):
        only("torch", "compile")
        nn = torch.nn

        class Attention(nn.Module):
            def __init__(self):
                super().__init__()
                self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

            def forward(self, x):
                n, m, _ = x.shape
                q, k, v = (a.view(n, m, heads, width // heads).transpose(1, 2)
                           for a in self.c_attn(x).split(width, 2))
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                return self.c_proj(y.transpose(1, 2).reshape(n, m, width))

        class MLP(nn.Module):
            def __init__(self):
                super().__init__()
                self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

            def forward(self, x):
                return self.c_proj(F.gelu(self.c_fc(x)))

        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
                self.attn, self.mlp = Attention(), MLP()

            def forward(self, x):
                x = x + self.attn(self.ln_1(x))
                return x + self.mlp(self.ln_2(x))

        class GPT(nn.Module):
            def __init__(self):
                super().__init__()
                self.transformer = nn.ModuleDict({
                    "wte": nn.Embedding(vocabulary, width), "wpe": nn.Embedding(length, width),
                    "h": nn.ModuleList([Block() for _ in range(layers)]),
                    "ln_f": nn.LayerNorm(width)})
                self.lm_head = nn.Linear(width, vocabulary, bias=False)
                self.lm_head.weight = self.transformer.wte.weight

            def forward(self, x):
                t = self.transformer
                y = t.wte(x) + t.wpe(torch.arange(x.shape[1]))
                for block in t.h:
                    y = block(y)
                return self.lm_head(t.ln_f(y))
        net = fill(GPT(), dtype, 0.02)
        x, t = labels(vocabulary, batch, length), labels(vocabulary, batch * length)
        opt = torch.optim.AdamW(net.parameters(), lr=1e-3)
        loss_of = lib.wrap(lambda: F.cross_entropy(net(x).reshape(-1, vocabulary), t))
        return training(opt, loss_of, net.transformer.wpe.weight)

    def fashion(dtype):
        only("torch", "compile")
        from torch.utils.data import DataLoader, TensorDataset

        def read(file, skip):
            with gzip.open("/usr/share/datasets/fashion-mnist/" + file) as f:
                return np.frombuffer(f.read(), np.uint8, offset=skip)
        net = torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.ReLU(),
                                  torch.nn.Linear(256, 128), torch.nn.ReLU(),
                                  torch.nn.Linear(128, 10))
        loss_of = lib.wrap(lambda x, t: F.cross_entropy(net(x), t))

        def step():
            for layer in net[::2]:
                layer.reset_parameters()
            x = torch.from_numpy(read("train-images-idx3-ubyte.gz", 16).reshape(-1, 784) /
                                 np.float32(255))
            t = torch.from_numpy(read("train-labels-idx1-ubyte.gz", 8).astype(np.int64))
            loader = DataLoader(TensorDataset(x, t), batch_size=100, shuffle=True)
            opt, total = optimizer(list(net.parameters()), "Adam", 3e-3), 0
            for a, b in loader:
                loss = loss_of(a, b)
                opt.zero_grad()
                loss.backward()
                opt.step()
                total += loss.item()
            assert total / len(loader) < 0.7
            return ()
        return step


def fill(net, dtype, scale):
    """Parameters in order of their names, a shared one by its first: from the pool, scaled."""
    net = net.to(torch.float32 if dtype == "f32" else torch.float64)
    seen = set()
    for key, p in sorted(net.named_parameters(remove_duplicate=False), key=NAMES):
        if p not in seen:
            seen.add(p)
            with torch.no_grad():
                p.copy_(array(dtype, *p.shape) * scale if p.dim() > 1 else torch.zeros_like(p))
    return net


def NAMES(item):  # as those of a Sequential of them are ordered
    order = {"embed": "0", "lstm": "1", "out": "2"}
    return ".".join(order.get(w, w) for w in item[0].split("."))


def training(opt, loss_of, p):
    def step():
        loss = loss_of()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.detach(), p.detach()
    return step


def applied(p, x):
    for i in range(0, len(p), 2):
        x = x @ p[i].T + p[i + 1]
        if i + 2 < len(p):
            x = mx.tanh(x)
    return x


def optimizer(p, rule, lr=1e-3, **how):
    for q in p:
        q.requires_grad_()
    if rule == "Adam" and peer == "compile":
        how["fused"] = True
    return getattr(torch.optim, rule)(p, lr=lr, **how)


def jax_training(loss_of, p, given, rule):
    """Without a loss `given` are the gradients themselves."""
    def update(p, m, v, t, given):
        loss, g = jax.value_and_grad(loss_of)(p, *given) if loss_of else (0.0, given)
        if rule == "SGD":
            return loss, [a - 1e-3 * b for a, b in zip(p, g)], m, v
        if rule == "momentum":
            m = [0.9 * a + b for a, b in zip(m, g)]
            return loss, [a - 1e-3 * b for a, b in zip(p, m)], m, v
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g)]
        c, d = 1e-3 / (1 - 0.9 ** t), jnp.sqrt(1 - 0.999 ** t)
        return loss, [(a - c * b / (jnp.sqrt(w) / d + 1e-8)).astype(a.dtype)
                      for a, b, w in zip(p, m, v)], m, v
    update = jax.jit(update, donate_argnums=(0, 1, 2))
    state = [list(p), *([jnp.zeros_like(a) for a in p] for _ in range(2))]
    t = 0

    def step():
        nonlocal t
        t += 1
        loss, *state[:] = jax.block_until_ready(update(*state, jnp.float32(t), given))
        return loss, state[0][0]
    return step


if name == "start":
    pass
elif peer == "jax":
    mx, sigmoid, relu = jnp, jax.nn.sigmoid, jax.nn.relu
elif peer == "casadi":
    mx = casadi
else:
    mx, sigmoid, relu = torch, torch.sigmoid, torch.relu

# ---- time and memory --------------------------------------------------------------------------


def print_of(r):
    r = np.asarray(r).reshape(-1)[:1 << 20].astype(np.float64)
    return "%.17g:%.17g" % (np.sqrt((r * r).sum()), (r * np.cos(np.arange(r.size))).sum())


count = 0


def seconds(step):
    global count

    def run(n):
        began = time.perf_counter()
        for _ in range(n):
            step()
        return (time.perf_counter() - began) / n
    once = run(1)
    if not count:
        if once < 1:
            once = run(2)
        count = max(1, min(20000, math.ceil(0.03 / once)))
    return (once if once > 1 else run(count)) / getattr(step, "evaluations", 1)


def status(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key))


def grown(step):
    for x in made:
        x.grad = None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before, kept = status("VmRSS"), None
    for _ in range(int(times)):
        kept = step()
    return status("VmHWM") - before


if words and words[-1] == "compiled":
    words = words[:-1]
try:
    step = getattr(case, name)(*words)
    print("ready", *map(print_of, step()), flush=True)
except Skip as e:
    sys.exit(print("skip", e))
for _ in sys.stdin:
    print("%.9g" % (grown(step) if mode == "memory" else seconds(step)), flush=True)
