/* Prints what the kernels named KERNELS make of made-up numbers, a line for each case: its name and a digest of the bits. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

static uint64_t state = 1;

static uint32_t drawn(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* Between -2 and 2. */
static float number(void) { return (float)((int32_t)(drawn() % 4097) - 2048) / 1024.0f; }

static void *room(size_t size) {
    void *memory = aligned_alloc(64, (size + 4159) & ~(size_t)63);
    if (!memory)
        abort();
    memset(memory, 0, size + 4096);
    return memory;
}

static float *numbers(size_t count) {
    float *made = room(count * sizeof *made);
    for (size_t i = 0; i < count; i++)
        made[i] = number();
    return made;
}

static void say(const char *name, const float *values, size_t count) {
    uint64_t digest = 14695981039346656037u;
    for (size_t i = 0; i < count * sizeof *values; i++)
        digest = (digest ^ ((const uint8_t *)values)[i]) * 1099511628211u;
    printf("%s %016" PRIx64 " %.6g\n", name, digest, (double)values[count / 2]);
}

static void product(int64_t K, int64_t N, int bits, int64_t block, int64_t rows, int biased) {
    const int64_t blocks = K / block, bytes = block * bits / 8;
    uint8_t *codes = room((size_t)(N * blocks * bytes));
    for (int64_t i = 0; i < N * blocks * bytes; i++)
        codes[i] = i % 97 ? (uint8_t)drawn() : i % 2 ? 255 : 0;
    float *scales = numbers((size_t)(N * blocks)), *x = numbers((size_t)(rows * K));
    for (int64_t i = 0; i < K && rows > 2; i++) {
        x[K + i] = 0;
        x[2 * K + i] *= 1e-35f;
    }
    Product p = {rows, K, N, blocks, bytes, bits, codes, scales, biased ? numbers((size_t)N) : NULL,
                 room((size_t)(rows * N) * 4), room((size_t)(rows * K)), room((size_t)(rows * blocks) * 4),
                 room((size_t)(rows * blocks) * 4)};
    for (int64_t row = 0; row < rows; row++)
        round_row(&p, x, row);
    void *sums = room((size_t)rows * 64);
    for (int64_t tile = 0; tile < (N + KERNELS.lanes - 1) / KERNELS.lanes; tile++)
        KERNELS.product_tile(&p, tile, sums);
    char name[80];
    snprintf(name, sizeof name, "product K=%d N=%d bits=%d block=%d rows=%d", (int)K, (int)N, bits, (int)block, (int)rows);
    say(name, p.y, (size_t)(rows * N));
}

static void attention(int64_t past, int64_t rows, int64_t D, int64_t window) {
    enum { HEADS = 6, KV_HEADS = 2 };
    const int64_t capacity = past + rows + 5;
    Attention a = {rows, past, HEADS, KV_HEADS, D, capacity, window, 0.3f, numbers((size_t)(rows * HEADS * D)),
                   numbers((size_t)(KV_HEADS * capacity * D)), numbers((size_t)(KV_HEADS * capacity * D)),
                   room((size_t)(rows * HEADS * D) * 4)};
    void *scores = room(attention_room(&a));
    for (int64_t head = 0; head < HEADS; head++)
        for (int64_t row = 0; row < rows; row += QUERY_ROWS)
            KERNELS.attend(&a, head, row, scores);
    char name[80];
    snprintf(name, sizeof name, "attention past=%d rows=%d D=%d window=%d", (int)past, (int)rows, (int)D, (int)window);
    say(name, a.y, (size_t)(rows * HEADS * D));
}

int main(void) {
    static const int64_t shapes[][4] = {{576, 64, 8, 64}, {96, 37, 4, 32}, {1536, 19, 4, 32}, {64, 23, 8, 32},
                                        {112, 40, 8, 16}, {48, 33, 4, 16}, {192, 17, 4, 64},  {1088, 8, 8, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int64_t rows = 1; rows < 8; rows += rows == 5 ? 2 : 1)
            product(shapes[i][0], shapes[i][1], (int)shapes[i][2], shapes[i][3], rows, i % 2);
    static const int64_t heads[][2] = {{16, 0}, {64, 0}, {64, 20}, {48, 5}, {128, 0}, {80, 33}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        for (int64_t rows = 1; rows < 20; rows += 6)
            attention((int64_t)i * 13, rows, heads[i][0], heads[i][1]);
    float *gates = numbers(256), *ups = numbers(256), y[256];
    for (int i = 0; i < 256; i++)
        gates[i] *= i < 64 ? 1 : i < 128 ? 40 : i < 192 ? 1e-6f : 1e4f;
    gate(y, gates, ups, 256);
    say("gate", y, 256);
    float turned[64];
    rotate(turned, ups, gates, gates + 32, 24, 64);
    say("rotation", turned, 64);
    return 0;
}
