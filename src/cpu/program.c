/* program.c -- programs as data: hash, equality, text; equal values merged. */
#include "cpu/program.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void program_seal(program *p) {
  p->bytes = (const char *)(program_outputs(p) + p->noutput) - (const char *)p;
  const char *at = (const char *)&p->bytes, *end = (const char *)p + p->bytes;
  uint64_t h = 0;
  for (; at + 8 <= end; at += 8) {
    uint64_t w;
    memcpy(&w, at, 8);
    h = (h ^ w) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
  }
  for (; at < end; at++) h = (h ^ (uint8_t)*at) * 0x9e3779b97f4a7c15u;
  p->hash = h ^ h >> 32;
}

bool program_equal(const program *a, const program *b) {
  return a->hash == b->hash && a->bytes == b->bytes && memcmp(a, b, a->bytes) == 0;
}

_Static_assert(sizeof(pvalue) == 14 && sizeof(poutput) == 4,
               "programs are compared by their bytes");

void program_merge(const program *p, program *to) {
  enum { LISTS = 256 };
  int n = p->nvalue, kept = 0;
  int16_t list[LISTS], next[n + 1], as[n + 1]; /* by hash; kept values; what each has become */
  uint8_t stored[n + 1];
  const pvalue *v = program_values(p);
  const poutput *o = program_outputs(p);
  *to = *p;
  memcpy((void *)program_spaces(to), program_spaces(p), p->nspace * sizeof(space));
  pvalue *r = (pvalue *)program_values(to);
  memset(list, -1, sizeof list);
  memset(as, 0, sizeof as);
  memset(stored, 0, sizeof stored);
  for (int k = 0; k < p->noutput; k++) stored[o[k].value] |= !o[k].op;
  for (int i = 0; i < n; i++) {
    pvalue x = v[i];
    for (int j = 0; !x.leaf && j < 3; j++)
      if (x.in[j] >= 0) x.in[j] = as[x.in[j]];
    uint32_t h = x.op * 31u + x.leaf * 7u + x.in[0] * 0x9e3779b9u + x.in[1] * 0x85ebca6bu;
    int16_t *first = &list[h >> 24], k = *first;
    while (k >= 0 && (stored[i] || memcmp(&r[k], &x, sizeof x) != 0)) k = next[k];
    if (k < 0) {
      r[kept] = x;
      next[kept] = *first;
      *first = k = (int16_t)kept++;
    }
    as[i] = k;
  }
  to->nvalue = kept;
  poutput *q = (poutput *)program_outputs(to);
  for (int k = 0; k < p->noutput; k++) {
    q[k] = o[k];
    q[k].value = as[o[k].value];
  }
  program_seal(to);
}

typedef struct {
  char *buf;
  int64_t room, len;
} writer;

__attribute__((format(printf, 2, 3))) static void add(writer *w, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int64_t left = w->len < w->room ? w->room - w->len : 0;
  w->len += vsnprintf(left ? w->buf + w->len : NULL, left, fmt, ap);
  va_end(ap);
}

static void add_leaf(writer *w, const program *p, const pvalue *v) {
  static const char *const name[] = {"", "input", "number", "random"};
  add(w, "%s %d", name[v->leaf], v->in[0] + 1);
  if (v->space < 0) return;
  const space *q = &program_spaces(p)[v->space];
  add(w, " of");
  for (int i = 0; i < q->n; i++) add(w, " %lld step %lld", (long long)q->d[i], (long long)q->st[i]);
}

int64_t program_text(const program *p, char *buf, int64_t room) {
  writer w = {buf, room, 0};
  add(&w, "program of %lld elements", (long long)p->size);
  if (p->row) add(&w, ", rows of %lld", (long long)p->row);
  if (p->n)
    add(&w, ", reduced as (%lld, %lld, %lld)", (long long)(p->size / p->n / p->inner),
        (long long)p->n, (long long)p->inner);
  add(&w, "\n");
  const pvalue *v = program_values(p);
  for (int i = 0; i < p->nvalue; i++) {
    add(&w, "  v%d = ", i + 1);
    if (v[i].leaf) add_leaf(&w, p, &v[i]);
    else {
      add(&w, "%s", op_table[v[i].op].name);
      for (int j = 0; j < 3 && v[i].in[j] >= 0; j++)
        add(&w, "%s v%d", j ? "," : "", v[i].in[j] + 1);
    }
    add(&w, " : %s%s\n", dtype_name[v[i].dtype], v[i].per_row ? " a row" : "");
  }
  const poutput *o = program_outputs(p);
  for (int i = 0; i < p->noutput; i++)
    add(&w, "  store %s%sv%d : %s\n", o[i].op ? op_table[o[i].op].name : "", o[i].op ? " " : "",
        o[i].value + 1, dtype_name[o[i].dtype]);
  return w.len;
}
