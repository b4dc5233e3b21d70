/* slow_mpi.c -- a network between the processes of one machine: loaded before MPI, it lets a
** non-blocking all-reduce end no sooner than a link of SLOW_MBPS (10^6 bytes a second) would have
** carried it, one after the other, SLOW_US after. The processor is free meanwhile, as it is beside a
** network card. */
#include <mpi.h>
#include <stdlib.h>

enum { MOST = 256 };
static struct {
  MPI_Request q;
  double due;
} busy[MOST];
static double link_free;

static double setting(const char *name) {
  const char *text = getenv(name);
  return text ? atof(text) : 0;
}

int MPI_Iallreduce(const void *from, void *to, int n, MPI_Datatype t, MPI_Op op, MPI_Comm comm,
                   MPI_Request *q) {
  int e = PMPI_Iallreduce(from, to, n, t, op, comm, q), bytes, i = 0;
  double now = MPI_Wtime();
  MPI_Type_size(t, &bytes);
  link_free =
      (link_free > now ? link_free : now) + (double)n * bytes / (setting("SLOW_MBPS") * 1e6);
  while (i < MOST - 1 && busy[i].due != 0) i++;
  busy[i].q = *q;
  busy[i].due = link_free + setting("SLOW_US") * 1e-6;
  return e;
}

int MPI_Test(MPI_Request *q, int *there, MPI_Status *status) {
  for (int i = 0; i < MOST && *q != MPI_REQUEST_NULL; i++)
    if (busy[i].due != 0 && busy[i].q == *q) {
      if (MPI_Wtime() < busy[i].due) return *there = 0, MPI_SUCCESS;
      int e = PMPI_Test(q, there, status);
      if (*there) busy[i].due = 0;
      return e;
    }
  return PMPI_Test(q, there, status);
}
