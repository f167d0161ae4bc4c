/* The kernels for AVX2 with FMA, and what they share with AVX-512. */

#include <math.h>
#include <string.h>

#include "kernels.h"

#include "avx2.h"
#include "products.h"
#include "attention.h"
#include "rows.h"

const Kernels kernels_avx2 = {LANES, product_tile, attend};
