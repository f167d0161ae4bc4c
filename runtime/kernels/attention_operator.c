/* CachedAttention. */

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "operators.h"
#include "rooms.h"

typedef struct {
    int64_t heads, kv_heads, window;
    float scale;
    const Kernels *kernels;
} AttentionKernel;

typedef struct {
    Attention attention;
    const Kernels *kernels;
    int64_t units, pieces;
    atomic_int failed;
} AttentionWork;

static void attention_piece(void *data, size_t piece) {
    AttentionWork *work = data;
    const Attention *a = &work->attention;
    void *room = room_for(SCORES, attention_room(a));
    if (!room) {
        work->failed = 1;
        return;
    }
    const int64_t groups = (a->rows + QUERY_ROWS - 1) / QUERY_ROWS;
    for (int64_t unit = work->units * (int64_t)piece / work->pieces;
         unit < work->units * (int64_t)(piece + 1) / work->pieces; unit++)
        work->kernels->attend(a, unit / groups, unit % groups * QUERY_ROWS, room);
}

/* Put the new keys, rotated, and values into the cache, and rotate the queries into `queries`. */
static void place(const Attention *a, const float *packed, float *queries, float *keys, float *values, const float *cosines,
                  const float *sines, int64_t half) {
    const int64_t D = a->D, width = (a->heads + 2 * a->kv_heads) * D;
    for (int64_t row = 0; row < a->rows; row++) {
        const int64_t at = a->past + row;
        const float *from = packed + row * width, *c = cosines + at * half, *s = sines + at * half;
        for (int64_t head = 0; head < a->heads; head++)
            rotate(queries + (row * a->heads + head) * D, from + head * D, c, s, half, D);
        for (int64_t head = 0; head < a->kv_heads; head++) {
            const int64_t to = (head * a->capacity + at) * D;
            rotate(keys + to, from + (a->heads + head) * D, c, s, half, D);
            memcpy(values + to, from + (a->heads + a->kv_heads + head) * D, (size_t)D * 4);
        }
    }
}

Status *attention_run(void *kernel, void *context) {
    const AttentionKernel *known = kernel;
    Inputs inputs = {0};
    int64_t sides[8], cache[8], values_sides[8], angles[8], sines_sides[8];
    size_t rank, cache_rank, values_rank, angles_rank, sines_rank;
    Status *status = read_inputs(context, &inputs);
    if (status || (status = sides_of(inputs.value[0], sides, &rank)) ||
        (status = sides_of(inputs.value[1], cache, &cache_rank)) ||
        (status = sides_of(inputs.value[2], values_sides, &values_rank)) ||
        (status = sides_of(inputs.value[4], angles, &angles_rank)) ||
        (status = sides_of(inputs.value[5], sines_sides, &sines_rank)))
        return status;
    const int64_t D = cache[3], total = *(const int32_t *)inputs.data[3];
    if (rank != 3 || sides[0] != 1 || cache_rank != 4 || cache[1] != known->kv_heads || D % 16 || angles_rank != 2 ||
        sides[2] != (known->heads + 2 * known->kv_heads) * D || 2 * angles[1] > D || total < sides[1] || total > cache[2] ||
        total > angles[0] || values_rank != 4 || memcmp(values_sides, cache, 4 * sizeof *cache) || sines_rank != 2 ||
        memcmp(sines_sides, angles, 2 * sizeof *angles))
        return ort_status(ORT_FAIL, "CachedAttention: its inputs do not fit together");
    AttentionWork work = {.attention = {.rows = sides[1],
                                        .past = total - sides[1],
                                        .heads = known->heads,
                                        .kv_heads = known->kv_heads,
                                        .D = D,
                                        .capacity = cache[2],
                                        .window = known->window,
                                        .scale = known->scale},
                          .kernels = known->kernels};
    Attention *a = &work.attention;
    float *keys, *values, *y;
    sides[2] = known->heads * D;
    if ((status = output_of(context, 0, sides, 3, &y)) || (status = output_of(context, 1, cache, 4, &keys)) ||
        (status = output_of(context, 2, cache, 4, &values)))
        return status;
    const size_t bytes = (size_t)(cache[1] * cache[2] * D) * 4;
    if (keys != inputs.data[1])
        memcpy(keys, inputs.data[1], bytes);
    if (values != inputs.data[2])
        memcpy(values, inputs.data[2], bytes);
    float *queries = room_for(QUERIES, (size_t)(a->rows * a->heads * D) * 4);
    if (!queries)
        return no_memory();
    place(a, inputs.data[0], queries, keys, values, inputs.data[4], inputs.data[5], angles[1]);
    a->queries = queries;
    a->keys = keys;
    a->values = values;
    a->y = y;
    work.units = a->heads * ((a->rows + QUERY_ROWS - 1) / QUERY_ROWS);
    work.pieces = work.units;
    status = ort_parallel(context, attention_piece, (size_t)work.pieces, 0, &work);
    return status ? status : work.failed ? no_memory() : NULL;
}

Status *attention_create(const void *info, void **kernel) {
    int64_t heads, kv_heads, window;
    float scale;
    Status *status;
    if ((status = ort_integer(info, "num_heads", &heads)) || (status = ort_integer(info, "kv_num_heads", &kv_heads)) ||
        (status = ort_float(info, "scale", &scale)))
        return status;
    if ((status = ort_integer(info, "local_window_size", &window))) {
        ort_release_status(status);
        window = 0;
    }
    if (heads < 1 || kv_heads < 1 || heads % kv_heads || !kernels())
        return ort_status(ORT_FAIL, "CachedAttention: its heads do not fit together, or the processor has not the instructions for it");
    AttentionKernel *made = malloc(sizeof *made);
    if (!made)
        return no_memory();
    *made = (AttentionKernel){heads, kv_heads, window > 0 ? window : 0, scale, kernels()};
    *kernel = made;
    return NULL;
}
