/* fuse.h -- what array.c and fuse.c, the two halves of the array core, share. */
#ifndef MG_FUSE_H
#define MG_FUSE_H

#include "array/array.h"

array *arr_blank(ctx *c, dtype t, const shape *s, int state);  /* no buffer yet */
bool arr_fill_in(ctx *c, array *a);                            /* ... a dense one */
void arr_settle(array *a, buffer *b);
imm imm_load(dtype t, const void *p);
void imm_store(dtype t, void *p, imm v);

#endif
