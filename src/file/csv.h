/* csv.h -- comma-separated text, field by field. */
#ifndef MG_CSV_H
#define MG_CSV_H

#include "base/base.h"

typedef struct csv {
  const char *p, *end;
  char delimiter;
  bool begins;                /* at a row's beginning */
  int64_t line;               /* from 1 */
} csv;

typedef struct cell {
  const char *p;
  int64_t n;
  bool quoted, doubled;       /* within quotes, which do not count; two quotes in it stand for one */
} cell;

enum {
  CSV_MORE,                   /* a field, and more of its row follow */
  CSV_LAST,                   /* the last of its row */
  CSV_END,                    /* no field: the text is at its end */
  CSV_OPEN,                   /* a quote is never closed */
  CSV_BEHIND                  /* something stands behind a closing quote */
};

/* A NUL stands behind the n bytes. */
void csv_open(csv *r, const char *p, int64_t n, char delimiter);
int csv_next(csv *r, cell *f);

/* Blanks around do not count. False: it is none. */
cell csv_trim(cell f);
bool csv_is(cell f, const char *text, size_t n);
bool csv_whole(cell f, int64_t *v);
bool csv_number(cell f, double *v);          /* decimal, inf, nan; what strtod gives */
bool csv_truth(cell f, bool *v);             /* true, True, TRUE ... */

int csv_print(char buf[40], double v, bool single);   /* single: of a float */
bool csv_needs_quotes(const char *p, size_t n, char delimiter);

#endif
