/* Products with blocks of codes, over the vectors of the file included before. */

#define ROWS_AT_ONCE 4

static inline int32_t four_from(const int8_t *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return four;
}

static inline VF block_added(VF sum, VI whole, VF scale, float scale_of_row) {
    return times_plus(to_floats(whole), times(scale, floats(scale_of_row)), sum);
}

/* One row, whose codes are multiplied as they lie in memory: it is the sums that are turned, which are fewer. */
static inline __attribute__((always_inline)) void
one_row(const Product *p, int64_t first, int64_t outputs, int bits, int block_bytes) {
    VF sum = floats(0), scales[16];
    VI wholes[4];
    const int64_t row_bytes = p->blocks * block_bytes;
    const int chunk_blocks = 64 / block_bytes;
    const uint8_t *from = p->codes + first * row_bytes;
    for (int64_t block = 0; block < p->blocks; block += chunk_blocks) {
        const int64_t left = p->blocks - block, at = block * block_bytes;
        const int blocks = (int)(left < chunk_blocks ? left : chunk_blocks);
        if (block % 16 == 0)
            scales_of(scales, p->scales + first * p->blocks + block, p->blocks, left < 16 ? left : 16, outputs);
        single(wholes, from + at, row_bytes, blocks * block_bytes, outputs, bits, block_bytes / 16, p->activations + at,
               p->activations + p->K / 2 + at);
        for (int b = 0; b < blocks; b++) {
            const VI whole = plus(wholes[b], integers(-ZERO(bits) * p->totals[block + b]));
            sum = block_added(sum, whole, scales[(block + b) % 16], p->scales_of_rows[block + b]);
        }
    }
    store(p->y + first, p->bias ? p->bias + first : NULL, sum, outputs);
}

/* `count` rows from `row` on, over the `blocks` blocks whose codes are at hand. */
static inline __attribute__((always_inline)) void
some_rows(const Product *p, VF *sums, const VI *codes, const VF *scales, int64_t row, int count, int64_t block, int blocks,
          int bits, int block_bytes) {
    const int groups = block_bytes / 4;
    const int64_t odd = p->K / 2;
    const int8_t *activations[ROWS_AT_ONCE];
    const int32_t *totals[ROWS_AT_ONCE];
    const float *scales_of_rows[ROWS_AT_ONCE];
    for (int r = 0; r < count; r++) {
        activations[r] = p->activations + (row + r) * p->K + block * block_bytes;
        totals[r] = p->totals + (row + r) * p->blocks + block;
        scales_of_rows[r] = p->scales_of_rows + (row + r) * p->blocks + block;
    }
    for (int b = 0; b < blocks; b++) {
        VI whole[ROWS_AT_ONCE];
        for (int r = 0; r < count; r++)
            whole[r] = integers(-ZERO(bits) * totals[r][b]);
#pragma GCC unroll 16
        for (int g = 0; g < groups; g++) {
            const int at = b * groups + g;
            for (int r = 0; r < count; r++) {
                const int32_t even = four_from(activations[r] + 4 * at);
                if (bits == 8)
                    whole[r] = dot(whole[r], codes[at], even);
                else
                    whole[r] =
                        both_dots(whole[r], codes[at], codes[16 + at], even, four_from(activations[r] + odd + 4 * at));
            }
        }
        for (int r = 0; r < count; r++)
            sums[r] = block_added(sums[r], whole[r], scales[b], scales_of_rows[r][b]);
    }
}

/* All rows, in fours; the codes are turned once, so that four activations meet all outputs. */
static inline __attribute__((always_inline)) void
all_rows(const Product *p, int64_t first, int64_t outputs, VF *sums, int bits, int block_bytes) {
    VI codes[32];
    VF scales[16];
    const int64_t row_bytes = p->blocks * block_bytes;
    const int chunk_blocks = 64 / block_bytes;
    const uint8_t *from = p->codes + first * row_bytes;
    for (int64_t r = 0; r < p->rows; r++)
        sums[r] = floats(0);
    for (int64_t block = 0; block < p->blocks; block += chunk_blocks) {
        const int64_t left = p->blocks - block;
        const int blocks = (int)(left < chunk_blocks ? left : chunk_blocks);
        const VF *scale = scales + block % 16;
        if (block % 16 == 0)
            scales_of(scales, p->scales + first * p->blocks + block, p->blocks, left < 16 ? left : 16, outputs);
        transpose(codes, from + block * block_bytes, row_bytes, blocks * block_bytes, outputs);
        spread(codes, bits);
        for (int64_t row = 0; row < p->rows; row += ROWS_AT_ONCE) {
            switch (p->rows - row) {
            case 1: some_rows(p, sums + row, codes, scale, row, 1, block, blocks, bits, block_bytes); break;
            case 2: some_rows(p, sums + row, codes, scale, row, 2, block, blocks, bits, block_bytes); break;
            case 3: some_rows(p, sums + row, codes, scale, row, 3, block, blocks, bits, block_bytes); break;
            default: some_rows(p, sums + row, codes, scale, row, 4, block, blocks, bits, block_bytes);
            }
        }
    }
    for (int64_t r = 0; r < p->rows; r++)
        store(p->y + r * p->N + first, p->bias ? p->bias + first : NULL, sums[r], outputs);
}

static void product_tile(const Product *p, int64_t tile, void *room) {
    const int64_t first = tile * LANES, outputs = p->N - first < LANES ? p->N - first : LANES;
#define CASE(wanted_bits, wanted_bytes)                                    \
    if (p->bits == wanted_bits && p->block_bytes == wanted_bytes) {        \
        if (p->rows == 1 && wanted_bytes >= 16)                            \
            one_row(p, first, outputs, wanted_bits, wanted_bytes);         \
        else                                                               \
            all_rows(p, first, outputs, room, wanted_bits, wanted_bytes);  \
    }
    CASE(8, 64)
    CASE(8, 32)
    CASE(8, 16)
    CASE(4, 32)
    CASE(4, 16)
    CASE(4, 8)
#undef CASE
}
