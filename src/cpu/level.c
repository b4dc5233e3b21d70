/* level.c -- the kernels of this machine: those of its instruction level, chosen when the library is
** loaded.
*/
#include "cpu/kern.h"

const kernels *kern_chosen;

__attribute__((constructor)) static void choose(void) {
  __atomic_store_n(&kern_chosen, OF_LEVEL(mg_kernels), __ATOMIC_RELAXED);
}
