/* The kernels for AVX-512 with VNNI. */

#include <math.h>
#include <string.h>

#include "kernels.h"

#include "avx512.h"
#include "products.h"
#include "attention.h"

const Kernels kernels_avx512 = {LANES, product_tile, attend};
