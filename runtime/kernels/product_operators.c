/* BlockProduct and GatedProduct. */

#include <stdatomic.h>
#include <stdlib.h>

#include "operators.h"
#include "rooms.h"

/* In how many pieces the work of an operator is shared out among threads, at most. */
#define PIECES 8
/* Rows from which on rounding them is shared out too. */
#define MANY_ROWS 8

typedef struct {
    int64_t K, N, block, bits, gated;
    const Kernels *kernels;
} ProductKernel;

typedef struct {
    Product product;
    const ProductKernel *kernel;
    const float *x;
    float *gated; /* [rows, N / 2] or null */
    int64_t tiles, pieces;
    atomic_int failed;
} ProductWork;

static void round_piece(void *data, size_t piece) {
    const ProductWork *work = data;
    const int64_t rows = work->product.rows, pieces = work->pieces;
    for (int64_t row = rows * (int64_t)piece / pieces; row < rows * (int64_t)(piece + 1) / pieces; row++)
        round_row(&work->product, work->x, row);
}

static void product_piece(void *data, size_t piece) {
    ProductWork *work = data;
    const Product *p = &work->product;
    const Kernels *known = work->kernel->kernels;
    void *room = room_for(SUMS, (size_t)p->rows * 64);
    if (!room) {
        work->failed = 1;
        return;
    }
    const int64_t first = work->tiles * (int64_t)piece / work->pieces;
    const int64_t last = work->tiles * (int64_t)(piece + 1) / work->pieces;
    for (int64_t tile = first; tile < last; tile++) {
        known->product_tile(p, tile, room);
        if (work->gated) {
            const int64_t half = p->N / 2, at = tile * known->lanes;
            known->product_tile(p, tile + half / known->lanes, room);
            for (int64_t row = 0; row < p->rows; row++)
                gate(work->gated + row * half + at, p->y + row * p->N + at, p->y + row * p->N + half + at, known->lanes);
        }
    }
}

Status *product_run(void *kernel, void *context) {
    const ProductKernel *known = kernel;
    Inputs inputs = {0};
    int64_t sides[8];
    size_t rank;
    Status *status = read_inputs(context, &inputs);
    if (status || (status = sides_of(inputs.value[0], sides, &rank)))
        return status;
    if (sides[rank - 1] != known->K)
        return ort_status(ORT_FAIL, "BlockProduct: its input is not K wide");
    ProductWork work = {.product = {.rows = 1,
                                    .K = known->K,
                                    .N = known->N,
                                    .blocks = known->K / known->block,
                                    .block_bytes = known->block * known->bits / 8,
                                    .bits = (int)known->bits,
                                    .codes = inputs.data[1],
                                    .scales = inputs.data[2],
                                    .bias = inputs.data[5]},
                        .kernel = known,
                        .x = inputs.data[0]};
    Product *p = &work.product;
    for (size_t i = 0; i + 1 < rank; i++)
        p->rows *= sides[i];
    float *y;
    sides[rank - 1] = known->gated ? p->N / 2 : p->N;
    if ((status = output_of(context, 0, sides, rank, &y)) || !p->rows)
        return status;
    /* A vector may begin before the end of the activations. */
    const size_t activations = ((size_t)(p->rows * p->K) + 127) & ~(size_t)63;
    const size_t blocks = ((size_t)(p->rows * p->blocks) * 4 + 63) & ~(size_t)63;
    const size_t ungated = known->gated ? (size_t)(p->rows * p->N) * 4 : 0;
    char *memory = room_for(ACTIVATIONS, activations + 2 * blocks + ungated);
    if (!memory)
        return no_memory();
    p->activations = (int8_t *)memory;
    p->scales_of_rows = (float *)(memory + activations);
    p->totals = (int32_t *)(memory + activations + blocks);
    p->y = known->gated ? (float *)(memory + activations + 2 * blocks) : y;
    work.gated = known->gated ? y : NULL;
    work.pieces = p->rows < PIECES ? p->rows : PIECES;
    if (p->rows < MANY_ROWS) {
        for (int64_t row = 0; row < p->rows; row++)
            round_row(p, work.x, row);
    } else if ((status = ort_parallel(context, round_piece, (size_t)work.pieces, 0, &work))) {
        return status;
    }
    const int64_t lanes = known->kernels->lanes;
    work.tiles = ((known->gated ? p->N / 2 : p->N) + lanes - 1) / lanes;
    work.pieces = work.tiles < PIECES ? work.tiles : PIECES;
    status = ort_parallel(context, product_piece, (size_t)work.pieces, 0, &work);
    return status ? status : work.failed ? no_memory() : NULL;
}

/* Complain of input `index` unless the graph says that it has so many elements. */
static Status *wants_elements(const void *info, size_t index, int64_t wanted) {
    void *type;
    const void *shape;
    size_t found;
    Status *status = ort_type_of_input(info, index, &type);
    if (status)
        return status;
    status = ort_tensor_of(type, &shape);
    if (!status)
        status = shape ? ort_count(shape, &found) : ort_status(ORT_FAIL, "BlockProduct: an input is no tensor");
    ort_release_type(type);
    if (!status && found != (size_t)wanted)
        status = ort_status(ORT_FAIL, "BlockProduct: its tensors are not as large as its numbers say");
    return status;
}

/* Kernels read codes, scales and bias without looking at their sizes. */
static Status *product_fits(const void *info, int64_t K, int64_t N, int64_t block, int64_t bits) {
    size_t count;
    Status *status = ort_known_inputs(info, &count);
    if (!status)
        status = wants_elements(info, 1, N * (K / 8 * bits));
    if (!status)
        status = wants_elements(info, 2, N * (K / block));
    return status || count < 6 ? status : wants_elements(info, 5, N);
}

Status *product_create(const void *info, int gated, void **kernel) {
    static const char *const names[] = {"K", "N", "block_size", "bits"};
    int64_t values[4];
    for (int i = 0; i < 4; i++) {
        Status *status = ort_integer(info, names[i], &values[i]);
        if (status)
            return status;
    }
    const int64_t K = values[0], N = values[1], block = values[2], bits = values[3];
    if ((block != 16 && block != 32 && block != 64) || (bits != 4 && bits != 8) || K < block || K % block || N < 1 ||
        K > INT32_MAX || N > INT32_MAX)
        return ort_status(ORT_FAIL, "BlockProduct wants 4 or 8 bits in blocks of 16, 32 or 64 that divide K");
    if (gated && N % 32)
        return ort_status(ORT_FAIL, "GatedProduct wants a multiple of 32 outputs");
    Status *unfit = product_fits(info, K, N, block, bits);
    if (unfit)
        return unfit;
    if (!kernels())
        return ort_status(ORT_FAIL, "this processor has not the instructions that the kernels need");
    ProductKernel *made = malloc(sizeof *made);
    if (!made)
        return no_memory();
    *made = (ProductKernel){K, N, block, bits, gated, kernels()};
    *kernel = made;
    return NULL;
}
