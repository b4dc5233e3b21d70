#!/usr/bin/env python3
"""Writes values.lua: what elementwise ops and their slopes are, to the last bit.

python3 spec/ulp/make.py (Debian: python3-mpmath). For each op and dtype a text, a line a point: the
operands, the value there, the slope by each operand, rounded once to the dtype. Values are hexadecimal,
operands in the shortest way that the dtype reads back. An op has its function, its slopes, and points of
its own beside those that all have; points outside its domain, where mpmath gives no real number, are left
out.
"""
import math
import os
import struct
from mpmath import mp, mpf

mp.prec = 300
INF = mpf("inf")

# ---- numbers of a dtype -----------------------------------------------------------------------------

WIDTH = {"float64": (53, -1074, 1024), "float32": (24, -149, 128)}


def rounded(x, dtype):
    """The number of the dtype that is nearest to x, as a float."""
    digits, least, most = WIDTH[dtype]
    if mp.isnan(x) or mp.isinf(x) or x == 0:
        return float(x)
    above = int(mp.mag(x))                      # |x| < 2^above
    if above > most + 1:
        return math.copysign(math.inf, x)
    if above < least - 1:
        return math.copysign(0.0, x)
    exponent = max(above - digits, least)
    n = int(mp.nint(mp.ldexp(x, -exponent)))
    value = mp.ldexp(mpf(n), exponent)
    if abs(value) >= mpf(2) ** most:
        return math.copysign(math.inf, value)
    return float(value)


def written(x):
    """Hexadecimal, without the zeros that say nothing."""
    if math.isinf(x) or math.isnan(x):
        return str(x)
    if x == 0:
        return "0"
    head, exponent = x.hex().split("p")
    if "." in head:
        head = head.rstrip("0").rstrip(".")
    return head + "p" + str(int(exponent))


def short(x, dtype):
    if dtype == "float64" or math.isinf(x):
        return repr(x).removesuffix(".0")
    for digits in range(1, 10):
        text = "%.*g" % (digits, x)
        if struct.unpack("f", struct.pack("f", float(text)))[0] == x:
            return text
    raise ValueError(x)


# ---- functions that mpmath has not, or not with slopes of its own ---------------------------------------

one = mpf(1)
half = one / 2


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def erfc(x):
    if abs(x) < 1e6:
        return mp.erfc(x)
    return mp.exp(-x * x) / (x * mp.sqrt(mp.pi)) if x > 0 else mpf(2)


def ncdf(x):
    return erfc(-x / mp.sqrt(2)) / 2


def npdf(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def gate(x):
    return sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x ** 3))


def gate_slope(x):
    s = gate(x)
    return s * (1 - s) * 2 * mp.sqrt(2 / mp.pi) * (1 + 3 * mpf("0.044715") * x * x)


def tanh_softplus(x):
    n = mp.expm1(2 * mp.log1p(mp.exp(x)))
    return n / (n + 2)


def mish_slope(x):
    t = tanh_softplus(x)
    return t + x * 4 * sigmoid(x) * mp.exp(2 * mp.log1p(mp.exp(x))) / (
        mp.exp(2 * mp.log1p(mp.exp(x))) + 1) ** 2


def log1p(x):
    return mp.log1p(x) if x > -1 else mp.nan


def real_log(x):
    return mp.log(x) if x > 0 else mp.nan


def inside(x, f):
    return f(x) if abs(x) < 1 else mp.nan


def power(x, y):
    if x < 0 and y != mp.floor(y):
        return mp.nan
    return mp.power(x, y)


def log_gamma(x):
    if x <= 0 and x == mp.floor(x):
        return mp.nan
    if x > 1e15:
        return (x - half) * mp.log(x) - x + mp.log(2 * mp.pi) / 2
    return mp.re(mp.loggamma(x))


def psi(n, x):
    if x <= 0 and x == mp.floor(x):
        return mp.nan
    if x > 1e15:
        return mp.log(x) - half / x if n == 0 else 1 / x + half / (x * x)
    return mp.psi(n, x)


def digamma(x):
    return psi(0, x)


def erfinv(x):
    if abs(x) >= 1:
        return mp.nan
    if x == 0:
        return mpf(0)
    y = mp.erfinv(x)
    for _ in range(3):
        y -= (mp.erf(y) - x) * mp.sqrt(mp.pi) / 2 * mp.exp(y * y)
    return y


def softplus(x):
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


def near(*centres):
    """Points beside these, by some units and by more."""
    return [c * (1 + s * d) for c in centres for s in (-1, 1) for d in (2.0 ** -52, 2.0 ** -23, 1e-3)]


# ---- ops: function, slopes, points of their own ------------------------------------------------------

SOME = [0.0, 1e-5, 0.01, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.7, 4.5, 8.0, 13.0, 30.0, 80.0]
FAR = {"float64": [5e-324, 1e-310, 2.3e-308, 1e-200, 1e-17, 120.0, 700.0, 709.7, 710.4, 745.0, 1e5, 1e20, 1e155, 1.7e308],
       "float32": [1.4e-45, 1e-39, 1.2e-38, 1e-25, 1e-8, 87.0, 88.7, 89.3, 103.5, 1e4, 1e12, 2e19, 3.4e38]}


def both(points):
    return [s * p for p in points for s in (1, -1) if p or s > 0]


UNARY = {
    # name: (function, slope, own points, ends)
    "sqrt": (mp.sqrt, lambda x: half / mp.sqrt(x), [], True),
    "rsqrt": (lambda x: 1 / mp.sqrt(x), lambda x: -half / mp.sqrt(x) / x, [], True),
    "exp": (mp.exp, mp.exp, [-708.5, -87.4, -100.0, 709.78, 88.72], True),
    "expm1": (mp.expm1, mp.exp, [-36.0, -40.0, -17.5, -18.0], True),
    "log": (real_log, lambda x: 1 / x, near(1), True),
    "log1p": (log1p, lambda x: 1 / (1 + x), near(-1), True),
    "log2": (lambda x: real_log(x) / mp.log(2), lambda x: 1 / (x * mp.log(2)), near(1), True),
    "sin": (mp.sin, mp.cos, [3.14, 3.15, 355.0, 22.0], False),
    "cos": (mp.cos, lambda x: -mp.sin(x), [1.57, 1.58, 11.0], False),
    "tan": (mp.tan, lambda x: 1 + mp.tan(x) ** 2, [1.57, 1.58, 3.14, 11.0], False),
    "asin": (lambda x: mp.asin(x) if abs(x) <= 1 else mp.nan, lambda x: 1 / mp.sqrt(1 - x * x), near(1, -1), False),
    "acos": (lambda x: mp.acos(x) if abs(x) <= 1 else mp.nan, lambda x: -1 / mp.sqrt(1 - x * x), near(1, -1), False),
    "atan": (mp.atan, lambda x: 1 / (1 + x * x), [], True),
    "sinh": (mp.sinh, mp.cosh, [709.9, 710.47, 88.9, 89.41], True),
    "cosh": (mp.cosh, mp.sinh, [709.9, 710.47, 88.9, 89.41], True),
    "tanh": (mp.tanh, lambda x: 1 / mp.cosh(x) ** 2, [9.0, 19.0, 22.1], True),
    "erf": (lambda x: 1 - erfc(x) if abs(x) > 1 else mp.erf(x), lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x), [3.9, 5.9, 9.1, 26.0, 27.2], True),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x), [-709.9, -740.0, -88.9, -100.0, 17.0, 37.0], True),
    "gelu": (lambda x: x * ncdf(x), lambda x: ncdf(x) + x * npdf(x), [-5.5, -12.9, -14.1, -37.0, -38.3, 0.75], True),
    "gelu_tanh": (lambda x: x * gate(x), lambda x: gate(x) + x * gate_slope(x), [-5.5, -8.5, -20.5, 0.75], True),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x)), [-709.9, -740.0, -88.9, -100.0, 17.0], True),
    "softplus": (softplus, sigmoid, [-709.9, -740.0, -88.9, -100.0, 17.0, 37.0], True),
    "mish": (lambda x: x * tanh_softplus(x), mish_slope, [-709.9, -740.0, -88.9, -100.0, 17.0], True),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / (x * x), [], True),
    "log10": (lambda x: real_log(x) / mp.log(10), lambda x: 1 / (x * mp.log(10)), near(1), True),
    "exp2": (lambda x: mp.power(2, x), lambda x: mp.power(2, x) * mp.log(2), [-1022.3, -1074.2, 1023.9, -126.3, -148.5, 127.9], True),
    "erfc": (erfc, lambda x: -2 / mp.sqrt(mp.pi) * mp.exp(-x * x), [3.9, 5.9, 9.1, 9.4, 26.0, 26.6], True),
    "erfinv": (erfinv, lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(erfinv(x) ** 2), near(1, -1), False),
    "lgamma": (log_gamma, digamma, near(1, 2) + [-0.5, -1.5, -2.2, -10.3, -50.5, 170.6], False),
    "digamma": (digamma, lambda x: psi(1, x), near(1.4616321449683622) + [-0.5, -1.5, -10.3, -50.5], False),
    "asinh": (mp.asinh, lambda x: 1 / mp.sqrt(x * x + 1), [], True),
    "acosh": (lambda x: mp.acosh(x) if x >= 1 else mp.nan, lambda x: 1 / mp.sqrt((x - 1) * (x + 1)), near(1), True),
    "atanh": (lambda x: mp.atanh(x) if abs(x) < 1 else mp.nan, lambda x: 1 / ((1 - x) * (1 + x)), near(1, -1), False),
    "logsigmoid": (lambda x: -softplus(-x), lambda x: sigmoid(-x), [709.9, 740.0, 88.9, 100.0, 17.0], True),
}


def logaddexp(x, y):
    return max(x, y) + mp.log1p(mp.exp(-abs(x - y)))


PAIRS = both([0.3, 1.0, 2.5, 7.0, 40.0])
CROSS = [(x, y) for x in PAIRS for y in PAIRS]
HUGE = {"float64": [1e-310, 1e-200, 1e200, 1.6e308], "float32": [1e-39, 1e-25, 1e25, 3.2e38]}

BINARY = {
    # name: (function, slope by x, slope by y, own points)
    "pow": (power, lambda x, y: y * power(x, y - 1) if x else mp.nan,
            lambda x, y: power(x, y) * mp.log(x) if x > 0 else mp.nan,
            [(2.0, 1023.99999), (2.0, -1074.0), (2.0, 127.99999), (1.0001, 7e6), (0.3, 0.1), (1e30, 0.1), (1e-30, 1.1),
             (1 + 2.0 ** -20, 1e6), (0.999, -8e4), (0.5, 0.0), (3.0, -1e-5), (-2.0, 63.0), (-0.5, -7.0)]),
    "atan2": (mp.atan2, lambda y, x: x / (x * x + y * y), lambda y, x: -y / (x * x + y * y), []),
    "hypot": (mp.hypot, lambda x, y: x / mp.hypot(x, y), lambda x, y: y / mp.hypot(x, y), []),
    "div": (lambda x, y: x / y, lambda x, y: 1 / y, lambda x, y: -x / (y * y), []),
    "logaddexp": (logaddexp, lambda x, y: sigmoid(x - y), lambda x, y: sigmoid(y - x), [(1e-3, -1e-3), (-800.0, 2.0), (-745.0, -744.0)]),
    "xlogy": (lambda x, y: x * real_log(y), lambda x, y: real_log(y), lambda x, y: x / y, [(3.0, 1 + 2.0 ** -20)]),
}


# ---- the file ---------------------------------------------------------------------------------------


def points(name, dtype):
    if name in BINARY:
        own = BINARY[name][3]
        huge = HUGE[dtype]
        pairs = CROSS + [(a, b) for a in huge for b in huge] + [(a, 1.0) for a in huge] + [(1.0, a) for a in huge] + own
        lists = pairs
    else:
        lists = [(x,) for x in both(SOME + FAR[dtype]) + UNARY[name][2]]
    seen = set()
    for p in lists:
        q = tuple(rounded(mpf(x), dtype) for x in p)
        if q not in seen and not any(math.isinf(x) for x in q):
            seen.add(q)
            yield q


def exact(name, point):
    """The value and the slopes, or None where they are no real numbers."""
    functions = UNARY[name][:2] if name in UNARY else BINARY[name][:3]
    try:
        results = [f(*map(mpf, point)) for f in functions]
    except (ValueError, ZeroDivisionError, TypeError):
        return None
    if any(isinstance(r, mp.mpc) or mp.isnan(r) for r in results):
        return None
    return results


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "values.lua"), "w") as out:
        out.write("-- Made by make.py: of each op, by dtype: operands, the value there, its slope by each operand.\n\nreturn {\n")
        for name in list(UNARY) + list(BINARY):
            out.write("%s = {\n" % name)
            for dtype in WIDTH:
                out.write("%s = [[\n" % dtype)
                for point in points(name, dtype):
                    results = exact(name, point)
                    if results is not None:
                        words = [short(x, dtype) for x in point] + [written(rounded(r, dtype)) for r in results]
                        out.write(" ".join(words) + "\n")
                out.write("]],\n")
            out.write("},\n")
        out.write("}\n")


if __name__ == "__main__":
    main()
