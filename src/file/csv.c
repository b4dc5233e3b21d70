/* csv.c -- fields of comma-separated text (RFC 4180), and the numbers in them.
**
** A field that begins with a quote ends with one; within, two stand for one. Rows end with LF, CRLF or
** CR; empty ones are passed over.
*/
#define _GNU_SOURCE
#include "file/csv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char BOM[] = "\xef\xbb\xbf"; /* at the beginning it is none of a field's text */

void csv_open(csv *r, const char *p, int64_t n, char delimiter) {
  *r = (csv){.p = p, .end = p + n, .delimiter = delimiter, .line = 1, .begins = true};
  if (n >= 3 && memcmp(p, BOM, 3) == 0) r->p += 3;
}

static bool is_break(char c) { return c == '\n' || c == '\r'; }

static void pass_break(csv *r) {
  r->p += *r->p == '\r' && r->p + 1 < r->end && r->p[1] == '\n' ? 2 : 1;
  r->line++;
  r->begins = true;
}

/* Behind the closing quote, or NULL */
static const char *quoted(csv *r, const char *p, cell *f) {
  f->p = ++p;
  for (;; p++) {
    p = memchr(p, '"', r->end - p);
    if (!p) return NULL;
    if (p + 1 == r->end || p[1] != '"') break;
    f->doubled = true;
    p++;
  }
  f->n = p - f->p;
  for (const char *s = f->p; (s = memchr(s, '\n', p - s)); s++) r->line++;
  return p + 1;
}

int csv_next(csv *r, cell *f) {
  while (r->begins && r->p < r->end && is_break(*r->p)) pass_break(r);
  if (r->begins && r->p == r->end) return CSV_END;
  *f = (cell){.quoted = r->p < r->end && *r->p == '"'};
  r->begins = false;
  const char *p = r->p;
  if (f->quoted && !(p = quoted(r, p, f))) return CSV_OPEN;
  if (!f->quoted) {
    f->p = p;
    while (p < r->end && *p != r->delimiter && !is_break(*p)) p++;
    f->n = p - f->p;
  }
  r->p = p;
  if (p == r->end) r->begins = true; /* an empty row follows: the end */
  else if (*p == r->delimiter) return r->p++, CSV_MORE;
  else if (is_break(*p)) pass_break(r);
  else return CSV_BEHIND;
  return CSV_LAST;
}

/* ---- numbers --------------------------------------------------------------------------------- */

cell csv_trim(cell f) {
  while (f.n > 0 && (*f.p == ' ' || *f.p == '\t')) f.p++, f.n--;
  while (f.n > 0 && (f.p[f.n - 1] == ' ' || f.p[f.n - 1] == '\t')) f.n--;
  return f;
}

bool csv_is(cell f, const char *text, size_t n) {
  f = csv_trim(f);
  return (size_t)f.n == n && memcmp(f.p, text, n) == 0;
}

bool csv_whole(cell f, int64_t *v) {
  f = csv_trim(f);
  const char *p = f.p, *end = p + f.n;
  bool minus = p < end && *p == '-';
  if (p < end && (*p == '-' || *p == '+')) p++;
  if (p == end) return false;
  int64_t sum = 0; /* negative: there is one more of those */
  for (; p < end; p++) {
    if (*p < '0' || *p > '9' || __builtin_mul_overflow(sum, 10, &sum) ||
        __builtin_sub_overflow(sum, *p - '0', &sum))
      return false;
  }
  if (!minus && sum == INT64_MIN) return false;
  *v = minus ? sum : -sum;
  return true;
}

/* By the C library, whatever the locale. What ends the field, a delimiter, a quote, a break or the NUL
** behind the text, ends the number too. */
static bool slowly(cell f, double *v) {
  char *stop;
  void *was = point_begin();
  *v = strtod(f.p, &stop);
  point_end(was);
  return stop == f.p + f.n;
}

static bool word(cell f, double *v) {
  bool minus = *f.p == '-';
  if (minus || *f.p == '+') f.p++, f.n--;
  bool inf = (f.n == 3 && strncasecmp(f.p, "inf", 3) == 0) ||
             (f.n == 8 && strncasecmp(f.p, "infinity", 8) == 0);
  if (!inf && !(f.n == 3 && strncasecmp(f.p, "nan", 3) == 0)) return false;
  *v = !inf ? NAN : minus ? -INFINITY : INFINITY;
  return true;
}

/* A product or quotient of two numbers that are exact is rounded once: it is what strtod gives. */
bool csv_number(cell f, double *v) {
  static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                               1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                               1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  f = csv_trim(f);
  if (f.n == 0) return false;
  const char *p = f.p, *end = p + f.n;
  bool minus = *p == '-';
  if (minus || *p == '+') p++;
  uint64_t m = 0;
  int digits = 0, any = 0, e = 0;
  bool point = false;
  for (; p < end; p++) {
    if (*p == '.' && !point) point = true;
    else if (*p >= '0' && *p <= '9') {
      any = 1;
      if (digits || *p != '0') digits++;
      if (digits < 20) m = m * 10 + (uint64_t)(*p - '0');
      if (point) e--;
    } else break;
  }
  if (!any) return word(f, v);
  if (p < end) {
    if (*p != 'e' && *p != 'E') return false;
    bool down = ++p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    if (p == end) return false;
    int x = 0;
    for (; p < end; p++) {
      if (*p < '0' || *p > '9') return false;
      if (x < 100000) x = x * 10 + (*p - '0');
    }
    e += down ? -x : x;
  }
  if (digits >= 20 || m > (1ull << 53) || e < -22 || e > 22) return slowly(f, v);
  double d = (double)m;
  d = e < 0 ? d / ten[-e] : d * ten[e];
  *v = minus ? -d : d;
  return true;
}

bool csv_truth(cell f, bool *v) {
  *v = csv_is(f, "true", 4) || csv_is(f, "True", 4) || csv_is(f, "TRUE", 4);
  return *v || csv_is(f, "false", 5) || csv_is(f, "False", 5) || csv_is(f, "FALSE", 5);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Between point_begin and point_end. The shortest of a few that reads as v again, with a point. */
int csv_print(char buf[40], double v, bool single) {
  if (isnan(v)) return (int)(stpcpy(buf, "nan") - buf);
  if (isinf(v)) return (int)(stpcpy(buf, v < 0 ? "-inf" : "inf") - buf);
  if (v == trunc(v) && fabs(v) < 1e15) return snprintf(buf, 40, "%.1f", v);
  int n = 0;
  for (int digits = single ? 6 : 15; digits <= (single ? 9 : 17); digits++) {
    n = snprintf(buf, 40, "%.*g", digits, v);
    if (single ? strtof(buf, NULL) == (float)v : strtod(buf, NULL) == v) break;
  }
  if (!strpbrk(buf, ".e")) n += (int)(stpcpy(buf + n, ".0") - (buf + n));
  return n;
}

bool csv_needs_quotes(const char *p, size_t n, char delimiter) {
  if (n == 0) return true; /* a row of one would be empty */
  if (n >= 3 && memcmp(p, BOM, 3) == 0) return true;
  if (p[0] == ' ' || p[n - 1] == ' ' || p[0] == '\t' || p[n - 1] == '\t') return true;
  for (size_t i = 0; i < n; i++)
    if (p[i] == delimiter || p[i] == '"' || p[i] == '\n' || p[i] == '\r') return true;
  return false;
}
