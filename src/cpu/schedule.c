/* schedule.c -- how a program is run here: cut, loops, scratch tiles, acts; made once and kept.
**
** A schedule depends on its program and on what this machine has, never on addresses, numbers or threads.
** Where a bit could hang on it (how reductions are cut), it depends on the shape, the widest dtype and the
** reductions alone.
*/
#include "cpu/schedule.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
  WORTH = 4 * SMALL, /* elements of a program of few values that machine code is written for */
  FEW = 4,
  KEPT = 1024, /* schedules; then all are forgotten */
  LISTS = 512
};

struct cpu {
  codes *codes;
  bool off;
  schedule *list[LISTS];
  int64_t count, planned, found, runs;
  uint64_t forgotten; /* how often all were */
};

/* ---- how the work is cut ---------------------------------------------------------------------------- */

static int64_t parts(int64_t n, int64_t each) { return (n + each - 1) / each; }

/* What thread takes what. Columns that are wider than a tile are cut across, and keep n in one piece unless
** it is long too; else rows go to a thread by the chunk, and rows longer than a chunk are split between
** tiles. Splits of columns are as long as a row: few, as they are put together by one thread. */
static void cut_chunks(cut *c, int64_t most, bool ends, int64_t row) {
  enum { SPLITS = 32, SHORT = 128, SPLIT = 64 };
  c->cols_per_block = c->inner;
  c->col_blocks = 1;
  c->rows_per_chunk = 1;
  if (c->inner > most) {
    c->cols_per_block = least(c->inner, CHUNK);
    c->col_blocks = parts(c->inner, c->cols_per_block);
    int64_t some = CHUNK / c->cols_per_block > SPLIT ? CHUNK / c->cols_per_block : SPLIT;
    c->n_per_split = c->n <= SHORT ? c->n : some;
  } else if (c->whole <= CHUNK) {
    c->n_per_split = c->n;
    c->rows_per_chunk = CHUNK / c->whole;
  } else {
    int64_t unit = c->inner == 1 ? c->tile : 1;
    c->n_per_split = parts(CHUNK / c->inner, unit) * unit;
  }
  int64_t shortest = parts(c->n, SPLITS);
  if (c->inner > 1 && c->n_per_split < shortest) c->n_per_split = shortest;
  if (row && !ends)
    c->n_per_split = parts(CHUNK, row); /* nothing is put together: rows as they come */
  c->splits = parts(c->n, c->n_per_split);
}

static void cut_kinds(cut *c, bool ends) {
  bool whole_rows = c->splits == 1 && c->col_blocks == 1 && c->inner <= c->tile;
  if (c->rows_per_chunk > 1 || whole_rows) c->kind = WHOLE_ROWS;
  else c->kind = c->inner <= c->tile ? SPLIT_OF_ROW : BLOCK_OF_COLS;
  c->chunks = c->rows_per_chunk > 1 ? parts(c->rows, c->rows_per_chunk)
                                    : c->rows * c->splits * c->col_blocks;
  if (!ends) c->fold = NO_FOLD;
  else if (c->inner == 1) c->fold = c->n <= c->tile ? ROWS_IN_TILE : ROW_BY_TILES;
  else if (c->whole <= c->tile) c->fold = COLS_IN_TILE;
  else if (c->inner > c->tile) c->fold = COLS_BY_PARTS;
  else c->fold = c->inner > SMALL ? COLS_BY_ROWS : COLS_GATHERED;
}

/* A program that folds rows on its way is cut as one that ends with sums of columns: rows that are folded
** stand where the columns' (inner) would, all of them are the n. */
static void cut_program(const program *p, cut *c) {
  enum { SEVERAL = 8, LINES = 128 };
  const pvalue *v = program_values(p);
  const space *q = program_spaces(p);
  int64_t last_axis = 0;
  bool plain = true; /* nothing is computed, nothing fetched */
  c->widest = 1;
  for (int i = 0; i < p->nvalue; i++) {
    plain &= v[i].leaf == LEAF_INPUT && v[i].space < 0;
    if (dtype_size[v[i].dtype] > c->widest) c->widest = dtype_size[v[i].dtype];
    if (v[i].leaf == LEAF_INPUT && v[i].space >= 0 && q[v[i].space].n)
      last_axis = q[v[i].space].d[q[v[i].space].n - 1];
  }
  bool ends = p->n > 0, folds = ends || p->row;
  if (ends) c->n = p->n, c->inner = p->inner;
  else if (p->row) c->n = p->size / p->row, c->inner = p->row;
  else c->n = p->size, c->inner = 1;
  c->whole = c->n * c->inner;
  c->rows = p->size / c->whole;
  int64_t most = c->inner > 1 ? SMALL : TILE / c->widest; /* what columns add up to hangs on it */
  /* tiles end with the rows of the reduction, or of a strided input where these are not tiny */
  if (folds) c->align = c->inner == 1 ? c->n : c->inner;
  else c->align = last_axis >= LINES ? last_axis : most;
  int64_t unit = folds && c->whole <= most ? c->whole : c->align;
  c->tile = unit <= most ? most / unit * unit : most;
  cut_chunks(c, most, ends, p->row);
  bool long_rows = c->inner > most && c->inner <= ROW;
  if (long_rows) c->tile = c->inner;
  /* a line more: tiles that begin in the same cache set would drive each other out */
  c->room = (c->tile * c->widest + 127) / 64 * 64;
  if (long_rows && plain) /* several rows at a time, in no scratch */
    c->tile *= c->n < SEVERAL ? SEVERAL / c->n * c->n : SEVERAL;
  cut_kinds(c, ends);
}

/* Where no bits hang on it, tiles are as long as the scratch that stays in the cache allows. */
static void cut_longer(schedule *s) {
  enum { CACHED = 4 * TILE };
  cut *c = &s->cut;
  bool ends = s->p.n > 0;
  if (s->p.row ? ends || c->inner > c->tile : c->inner > 1) return;
  int64_t most = !s->p.row && c->tile < c->n && c->n < CHUNK ? c->n : CHUNK;
  int tiles = s->nslot - s->nblocks; /* those of sums are small: a byte for two elements */
  int read = tiles + (s->p.row > 0); /* rows are read again when they have been folded */
  while (c->tile * 2 <= most && c->tile * 2 * c->widest * read <= CACHED) c->tile *= 2;
  c->room = (least(c->tile, s->p.size) * (tiles ? c->widest : 1) + 127) / 64 * 64;
  cut_kinds(c, ends);
}

/* A thread's scratch, in which the sums of runs follow the tiles */
static void place_sums(schedule *s) {
  const cut *c = &s->cut;
  bool gathered = c->fold == COLS_GATHERED;
  bool cols = gathered || c->fold == COLS_BY_ROWS || c->fold == COLS_BY_PARTS;
  int64_t width = gathered ? c->tile : c->cols_per_block;
  int64_t turns = gathered ? c->n_per_split * c->inner / c->tile : c->n_per_split;
  s->each = s->nslot * c->room;
  for (int k = 0; k < s->noutput; k++) {
    output *o = &s->output[k];
    o->floats = c->inner > 1 && (o->op == OP_sum || o->op == OP_mean) && o->from == F32;
    o->sums = cols && o->floats && turns > SUM_RUN ? (int64_t)s->each : -1;
    if (o->sums >= 0) s->each += (width * sizeof(double) + 63) / 64 * 64;
  }
}

/* Do rows of q take elements out of lines of memory that the next rows read again, when caches may have lost
** them? Not if one row is most of a panel. */
static bool is_far_apart(const space *q, int esz) {
  enum { CACHED = 1 << 15, FEW = 4 };
  const int64_t last = q->n - 1, *d = q->d, *st = q->st;
  int64_t size = esz;
  for (int i = 0; i < q->n; i++) size *= d[i];
  return size >= CACHED && last > 0 && st[last] > 1 && st[last - 1] == 1 && d[last - 1] >= FEW &&
         d[last] <= CHUNK / FEW;
}

/* Behind all else in a thread's scratch. Tiles may be read to the end of a vector. */
static void place_panels(schedule *s) {
  for (act *a = s->act; a < s->act + s->nact; a++) {
    if (a->kind != FETCH || a->per_row || !is_far_apart(a->q, a->esz)) continue;
    a->panel = (int64_t)s->each;
    s->each += (least(CHUNK, s->p.size) * a->esz + 127) / 64 * 64;
  }
}

/* ---- when values are read, and where they stand --------------------------------------------------------- */

static void find_last(planner *p) {
  schedule *s = p->s;
  int nv = p->p->nvalue;
  for (int k = 0; k < nv; k++) s->position[p->order[k]] = s->last[p->order[k]] = k;
  for (int k = 0, end = -1; k < nv; k++) {
    int i = p->order[k], loop = p->note[i].loop;
    if (k > end) /* the last of its loop */
      for (end = k; loop && end + 1 < nv && p->note[p->order[end + 1]].loop == loop;) end++;
    if (p->v[i].op == OP_NONE) continue;
    for (int j = 0; j < 3; j++) {
      int x = p->v[i].in[j];
      if (x < 0) continue;
      /* a number for all of a row is read anew by each segment of the loop */
      int at = loop && (p->v[i].op == OP_broadcast_to || p->note[x].per_segment) ? end : k;
      if (s->last[x] < at) s->last[x] = at;
    }
  }
}

/* Scratch tiles: constants and strided inputs keep theirs, what is computed shares */
static bool find_slots(planner *p) {
  schedule *s = p->s;
  int nv = p->p->nvalue, nfree = 0;
  int16_t *freed = mg_alloc(p->c, (nv + 1) * sizeof *freed);
  if (!freed) return false;
  for (int k = 0; k < s->noutput; k++) {
    output *o = &s->output[k];
    if (o->op && o->blocks < 0) s->last[o->value] = INT_MAX; /* read when all is computed */
    o->wide = s->cut.fold == COLS_GATHERED && o->op ? (int16_t)s->nslot++ : -1;
  }
  for (int k = 0; k < nv; k++) {
    int i = p->order[k];
    const pvalue *v = &p->v[i];
    s->slot[i] = -1;
    if (v->leaf == LEAF_INPUT || v->leaf == LEAF_NUMBER) {
      if (v->space >= 0 || (v->leaf == LEAF_NUMBER && p->note[i].called)) s->slot[i] = s->nslot++;
      continue;
    }
    for (int pass = 0; pass < 2;
         pass++) { /* the tile of an operand as wide may become the result's */
      for (int j = 0; v->op != OP_NONE && j < 3; j++) {
        int x = v->in[j];
        if (x < 0 || s->slot[x] < 0 || s->last[x] != k) continue;
        const pvalue *w = &p->v[x];
        bool again = (j > 0 && x == v->in[0]) || (j > 1 && x == v->in[1]);
        bool alike = dtype_size[w->dtype] == dtype_size[v->dtype] && w->per_row == v->per_row;
        if ((w->op != OP_NONE || w->leaf == LEAF_RANDOM) && !again && alike == (pass == 0))
          freed[nfree++] = s->slot[x];
      }
      if (pass == 0 && p->note[i].output < 0 && !p->note[i].in_register)
        s->slot[i] = nfree ? freed[--nfree] : s->nslot++;
    }
  }
  s->nslot += s->nblocks;
  mg_free(freed);
  return true;
}

/* ---- acts ----------------------------------------------------------------------------------------------- */

static int act_of(const planner *p, int k) {
  int i = p->order[k];
  const pvalue *v = &p->v[i];
  const note *n = &p->note[i];
  bool more = k + 1 < p->p->nvalue && n->loop && p->note[p->order[k + 1]].loop == n->loop;
  if (v->leaf == LEAF_INPUT)
    return n->per_segment ? ONE_A_SEGMENT : v->space >= 0 ? FETCH : PLACE_INPUT;
  if (v->leaf == LEAF_NUMBER || more) return -1;
  if (v->leaf == LEAF_RANDOM) return FILL_RANDOM;
  if (n->loop) return RUN_LOOP;
  if (n->blocks >= 0) return JOIN_ROWS;
  if (v->op == OP_broadcast_to) return SPREAD;
  return op_reduces(v->op) ? REDUCE_ROWS : RUN_KERNEL;
}

static void find_acts(planner *p) {
  schedule *s = p->s;
  for (int k = 0; k < p->p->nvalue; k++) {
    int i = p->order[k], kind = act_of(p, k);
    const pvalue *v = &p->v[i];
    const note *n = &p->note[i];
    act a = {.esz = dtype_size[v->dtype],
             .op = v->op,
             .dtype = v->dtype,
             .per_row = v->per_row,
             .i = i,
             .in = {-1, -1, -1},
             .slot = s->slot[i],
             .bound = v->leaf ? v->in[0] : -1,
             .panel = -1,
             .q = v->space >= 0 ? &program_spaces(&s->p)[v->space] : NULL};
    if (n->output >= 0) {
      act place = a;
      place.kind = PLACE_OUTPUT;
      place.bound = n->output;
      s->act[s->nact++] = place;
    }
    if (kind < 0) continue;
    a.kind = kind;
    for (int j = 0; !v->leaf && j < 3; j++) a.in[j] = v->in[j];
    dtype from = v->leaf ? v->dtype : p->v[v->in[v->op == OP_where]].dtype;
    if (kind == RUN_LOOP) a.extra = n->loop - 1;
    if (kind == JOIN_ROWS) a.extra = n->blocks;
    if (kind == REDUCE_ROWS) a.dtype = from;
    if (kind == RUN_KERNEL) a.f = cpu_kernel(v->op, from, v->dtype);
    s->act[s->nact++] = a;
  }
  for (int i = 0; i < p->p->nvalue; i++)
    if (p->v[i].leaf == LEAF_NUMBER && s->slot[i] >= 0)
      s->constant[s->nconst++] = (constant_tile){i, s->slot[i], p->v[i].in[0], p->v[i].dtype};
}

/* ---- making one ------------------------------------------------------------------------------------------- */

static void schedule_free(schedule *s) {
  if (!s) return;
  mg_free(s->memory);
  mg_free(s->pool_memory);
  mg_free(s);
}

/* The arrays of a schedule, in one piece */
static bool make_room(ctx *c, schedule *s) {
  size_t nv = s->nvalue, no = s->noutput;
  size_t bytes = 2 * nv * sizeof(act) + nv * sizeof(loop) + nv * sizeof(constant_tile) +
                 3 * nv * sizeof(pool_number) + no * sizeof(output) + 2 * nv * sizeof(int32_t) +
                 nv * sizeof(int16_t);
  char *at = s->memory = mg_alloc(c, bytes);
  if (!at) return false;
  s->act = (act *)at, at += 2 * nv * sizeof(act);
  s->loop = (loop *)at, at += nv * sizeof(loop);
  s->constant = (constant_tile *)at, at += nv * sizeof(constant_tile);
  s->number = (pool_number *)at, at += 3 * nv * sizeof(pool_number);
  s->last = (int32_t *)at, at += nv * sizeof(int32_t);
  s->position = (int32_t *)at, at += nv * sizeof(int32_t);
  s->output = (output *)at, at += no * sizeof(output);
  s->slot = (int16_t *)at;
  return true;
}

static bool plan_loops(planner *p) {
  schedule *s = p->s;
  if (!loops_find(p)) return false;
  if (!s->nloop) return true;
  if (!(s->pool_memory = mg_alloc(p->c, (loops_most_pool(p) + 1) * POOL_LINE))) return false;
  s->pool = (char *)(((uintptr_t)s->pool_memory + POOL_LINE - 1) / POOL_LINE * POOL_LINE);
  return loops_write(p);
}

/* Notes and the order as they are without loops */
static void begin_notes(planner *p) {
  for (int i = 0; i < p->p->nvalue; i++) {
    p->note[i] = (note){.output = -1, .blocks = -1, .instr = -1, .called = true};
    p->order[i] = i;
  }
  for (int k = 0; k < p->p->noutput; k++) {
    if (!p->o[k].op) p->note[p->o[k].value].output = k;
    p->output_blocks[k] = -1;
  }
}

static bool plan(planner *p) {
  schedule *s = p->s;
  begin_notes(p);
  cut_program(p->p, &s->cut);
  if (p->codes && !plan_loops(p)) return false;
  for (int k = 0; k < s->noutput; k++) {
    const poutput *o = &p->o[k];
    s->output[k] = (output){.value = o->value,
                            .blocks = p->output_blocks[k],
                            .op = o->op,
                            .from = p->v[o->value].dtype,
                            .dtype = o->dtype};
  }
  find_last(p);
  if (!find_slots(p)) return false;
  cut_longer(s);
  place_sums(s);
  find_acts(p);
  place_panels(s);
  return true;
}

static schedule *blank(ctx *c, const program *of) {
  size_t room = (of->bytes + 7) / 8 * 8;
  schedule *s = mg_alloc(c, sizeof *s + 2 * room);
  if (!s) return NULL;
  memset(s, 0, sizeof *s);
  program_merge(of, &s->p);
  s->asked = memcpy((char *)&s->p + room, of, of->bytes);
  s->nvalue = s->p.nvalue;
  s->noutput = s->p.noutput;
  return s;
}

static schedule *make_scalar(ctx *c, const program *of, codes *k) {
  schedule *s = blank(c, of);
  if (s && (s->memory = s->drawn = mg_alloc(c, (of->nvalue + 1) * sizeof *s->drawn)) &&
      scalar_plan(c, k, s))
    return s;
  schedule_free(s);
  return NULL;
}

static schedule *make(ctx *c, const program *of, codes *k) {
  if (k && program_is_number(of)) return make_scalar(c, of, k);
  schedule *s = blank(c, of);
  if (!s || program_is_number(of)) return s;
  planner p = {.c = c,
               .s = s,
               .p = &s->p,
               .v = program_values(&s->p),
               .o = program_outputs(&s->p),
               .q = program_spaces(&s->p),
               .codes = k};
  size_t notes = s->nvalue * sizeof(note), order = s->nvalue * sizeof(int32_t);
  char *scratch = mg_alloc(c, order + notes + of->noutput * sizeof(int16_t)); /* by alignment */
  bool ok = scratch && make_room(c, s);
  if (ok) {
    p.order = (int32_t *)(void *)scratch;
    p.note = (note *)(void *)(scratch + order);
    p.output_blocks = (int16_t *)(void *)(scratch + order + notes);
    ok = plan(&p);
  }
  mg_free(scratch);
  if (ok) return s;
  schedule_free(s);
  return NULL;
}

/* ---- keeping them ------------------------------------------------------------------------------------------ */

static struct cpu *cpu_of(ctx *c) {
  if (c->cpu) return c->cpu;
  struct cpu *m = mg_alloc(c, sizeof *m);
  if (!m) return NULL;
  memset(m, 0, sizeof *m);
  const char *code = getenv("MOONGRAD_CODE");
  m->off = code && strcmp(code, "off") == 0;
  if (!(m->codes = codes_new(c))) return mg_free(m), NULL;
  return c->cpu = m;
}

static void forget_all(struct cpu *m) {
  for (int i = 0; i < LISTS; i++)
    while (m->list[i]) {
      schedule *s = m->list[i];
      m->list[i] = s->next;
      schedule_free(s);
    }
  m->count = 0;
  m->forgotten++;
}

static bool is_worth_code(const program *p) {
  return p->size >= WORTH || p->nvalue > FEW || program_is_number(p);
}

static bool has_code(const schedule *s) { return s->nloop || s->scalar; }

const program *cpu_program(const schedule *s) { return s->asked; }

/* Both counts only grow. */
uint64_t cpu_kept(ctx *c) { return c->cpu ? c->cpu->forgotten + codes_age(c->cpu->codes) : 0; }

const schedule *cpu_schedule(ctx *c, const program *p) {
  struct cpu *m = cpu_of(c);
  if (!m) return NULL;
  for (schedule **at = &m->list[p->hash % LISTS], *s; (s = *at); at = &s->next) {
    if (!program_equal(s->asked, p)) continue;
    if (has_code(s) && s->age != codes_age(m->codes)) { /* its code is gone */
      *at = s->next;
      schedule_free(s);
      m->count--;
      break;
    }
    return m->found++, s;
  }
  if (m->count >= KEPT) forget_all(m);
  bool code = !m->off && is_worth_code(p) && codes_ready(m->codes);
  schedule *s = make(c, p, code ? m->codes : NULL);
  if (!s && code && c->err == OK) s = make(c, p, NULL); /* too much for the room there is */
  if (!s) return NULL;
  s->age = codes_age(m->codes);
  s->next = m->list[p->hash % LISTS];
  m->list[p->hash % LISTS] = s;
  m->count++;
  m->planned++;
  return s;
}

bool cpu_in_place(const schedule *s, int out, int leaf) {
  const pvalue *v = program_values(&s->p);
  const output *o = &s->output[out];
  if (program_is_number(&s->p)) return true;
  if (o->op) return false;
  for (int i = 0; i < s->nvalue; i++)
    if (v[i].leaf == LEAF_INPUT && v[i].in[0] == leaf)
      return v[i].space < 0 && s->last[i] <= s->position[o->value];
  return true;
}

void cpu_close(ctx *c) {
  struct cpu *m = c->cpu;
  if (!m) return;
  forget_all(m);
  codes_free(m->codes);
  mg_free(m);
  c->cpu = NULL;
}

/* ---- the machine itself -------------------------------------------------------------------------------------- */

void cpu_count_run(ctx *c, const schedule *s) { c->cpu->runs += has_code(s); }

void cpu_code_off(ctx *c, bool off) {
  struct cpu *m = cpu_of(c);
  if (!m) c->err = OK; /* without memory nothing is kept that could be forgotten */
  if (!m || m->off == off) return;
  m->off = off;
  forget_all(m);
}

void cpu_stat(ctx *c, cpu_stats *t) {
  struct cpu *m = cpu_of(c);
  *t = (cpu_stats){.on = false};
  if (!m) {
    c->err = OK;
    return;
  }
  size_t used;
  int64_t pieces;
  bool written = codes_bytes(m->codes, &used, &pieces);
  *t = (cpu_stats){.on = !m->off && written,
                   .pieces = pieces,
                   .bytes = (int64_t)used,
                   .runs = m->runs,
                   .schedules = m->count,
                   .planned = m->planned,
                   .found = m->found};
}

const void *cpu_code_bytes(ctx *c, size_t *n) {
  int64_t pieces;
  *n = 0;
  return c->cpu ? codes_bytes(c->cpu->codes, n, &pieces) : NULL;
}
