/* Memory of a thread, which grows as it is needed; what a thread leaves behind, the next new one takes up. */

#ifndef SHAMMAH_ROOMS_H
#define SHAMMAH_ROOMS_H

#include <stddef.h>

enum { ACTIVATIONS, SUMS, QUERIES, SCORES, ROOMS };

/* Once, before any other call; 0 where that cannot be. */
int open_rooms(void);

/* At least so many bytes, aligned for vectors, that this thread has used for the same before; null where there is no memory. */
void *room_for(int which, size_t wanted);

#endif
