/* The kernels for ARMv8, and, compiled so that SHAMMAH_DOT is defined, those for its dot products. */

#include <math.h>
#include <string.h>

#include "kernels.h"

#include "neon.h"
#include "products.h"
#include "attention.h"

#ifdef SHAMMAH_DOT
const Kernels kernels_dot = {LANES, product_tile, attend};
#else
#include "rows.h"

const Kernels kernels_neon = {LANES, product_tile, attend};
#endif
