/* What is computed, whatever the instruction set; the operators hand it to ONNX Runtime. */

#ifndef SHAMMAH_KERNELS_H
#define SHAMMAH_KERNELS_H

#include <stdint.h>

/* y [rows, N] = x [rows, K] times a matrix of codes in blocks, transposed, as ONNX Runtime's MatMulNBits stores it:
   codes [N, blocks, block_bytes], of which 2 ** (bits - 1) is zero, and a scale for each block [N, blocks]. `bias` [N] or null.

   x comes rounded to 8 bits in the same blocks: `activations` [rows, K], of which, at 4 bits, a row has those with even numbers
   first and then those with odd ones, as codes lie in their bytes; their scales and what they add up to, each [rows, blocks].

   y = sum over blocks of float(sum of codes * activations) * (scale * scale of the activations), in rising order, each by one
   fused multiply and add. A sum inside a block is of whole numbers. So neither the instruction set nor the number of rows
   changes a bit of y. */
typedef struct {
    int64_t rows, K, N, blocks, block_bytes;
    int bits;
    const uint8_t *codes;
    const float *scales, *bias;
    float *y;
    int8_t *activations;
    float *scales_of_rows;
    int32_t *totals;
} Product;

/* Attention of `rows` new tokens behind `past` earlier ones. queries and y are [rows, heads, D]; keys and values [kv_heads,
   capacity, D] hold the new tokens already, and each of their heads serves heads / kv_heads neighbouring heads of queries.
   A token looks back at the earlier ones and itself, with a window above 0 at so many at most. What is computed for a row
   does not depend on others. */
typedef struct {
    int64_t rows, past, heads, kv_heads, D, capacity, window;
    float scale;
    const float *queries, *keys, *values;
    float *y;
} Attention;

/* Query rows that are attended together. */
#define QUERY_ROWS 8

typedef struct {
    int64_t lanes; /* outputs of a tile */
    /* Outputs [lanes * tile, lanes * tile + lanes) of all rows; `room`: 64 bytes a row. */
    void (*product_tile)(const Product *, int64_t tile, void *room);
    /* QUERY_ROWS rows of one head from `row` on; `room`: what attention_room says. */
    void (*attend)(const Attention *, int64_t head, int64_t row, void *room);
} Kernels;

/* Bytes for the scores of QUERY_ROWS rows over all tokens, in whole vectors. */
static inline uint64_t attention_room(const Attention *a) {
    return (uint64_t)QUERY_ROWS * (uint64_t)(a->past + a->rows + 32) * 4;
}

/* Of these a library has those for its kind of processor: AVX2 with FMA and AVX-512 with VNNI, or ARMv8 and its dot products. */
extern const Kernels kernels_avx2, kernels_avx512, kernels_neon, kernels_dot;

/* Round row `row` of x to p->activations, with its scales and totals. */
void round_row(const Product *p, const float *x, int64_t row);

/* y [n] = silu(gate [n]) * up [n]; n is a multiple of 8. */
void gate(float *y, const float *gates, const float *ups, int64_t n);

/* Rotate the first 2 * half of D values by the angles whose cosines and sines [half] are given. */
void rotate(float *restrict to, const float *restrict from, const float *restrict cosines, const float *restrict sines,
            int64_t half, int64_t D);

#endif
