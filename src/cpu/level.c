/* level.c -- the kernels of this machine: those of its instruction level, chosen when the library is
** loaded.
*/
#include "cpu/kern.h"

const kernels *kern_chosen;

__attribute__((constructor)) static void choose(void) {
  const int level = cpu_level();
  const kernels *k = level >= 4 ? &mg_kernels_v4 : level == 3 ? &mg_kernels_v3 : &mg_kernels_v2;
  __atomic_store_n(&kern_chosen, k, __ATOMIC_RELAXED);
}
