/* level.c -- the kernels of this machine: those of its instruction level, chosen when the library is
** loaded.
*/
#include "cpu/kern.h"

const kernels *kern_chosen, *kern_of_numbers;

static const kernels *of_numbers(void) {
#if !defined PLAIN_C
  if (cpu_level() >= 4) return &mg_kernels_v3;
#endif
  return OF_LEVEL(mg_kernels);
}

__attribute__((constructor)) static void choose(void) {
  __atomic_store_n(&kern_chosen, OF_LEVEL(mg_kernels), __ATOMIC_RELAXED);
  __atomic_store_n(&kern_of_numbers, of_numbers(), __ATOMIC_RELAXED);
}
