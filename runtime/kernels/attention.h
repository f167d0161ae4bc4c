/* Attention over cached keys and values, over the vectors of the file included before. D is a multiple of 16. */

/* e ** x for x of at most 0, to about one unit in the last place: 2 ** n times the Taylor series of the rest. */
static inline VF exponential(VF x) {
    /* In this order x86 keeps an x that is no number. */
    x = larger(floats(-87.0f), x);
    const VI n = to_integers(times(x, floats(1.44269504f)));
    const VF whole = to_floats(n);
    VF rest = times_plus(whole, floats(-0.693359375f), x);
    rest = times_plus(whole, floats(2.12194440e-4f), rest);
    VF sum = floats(1.0f / 5040);
    sum = times_plus(sum, rest, floats(1.0f / 720));
    sum = times_plus(sum, rest, floats(1.0f / 120));
    sum = times_plus(sum, rest, floats(1.0f / 24));
    sum = times_plus(sum, rest, floats(1.0f / 6));
    sum = times_plus(sum, rest, floats(0.5f));
    sum = times_plus(sum, rest, floats(1.0f));
    sum = times_plus(sum, rest, floats(1.0f));
    return scaled(sum, n);
}

/* Scores of one query with the LANES keys from `key` on, of which `known` are there. */
static inline __attribute__((always_inline)) VF
scores_of(const float *query, const float *key, int64_t known, int64_t D) {
    VF parts[LANES];
    for (int i = 0; i < LANES; i++)
        parts[i] = floats(0);
    if (known >= LANES) {
        for (int64_t d = 0; d < D; d += LANES) {
            const VF q = load(query + d);
            for (int i = 0; i < LANES; i++)
                parts[i] = times_plus(q, load(key + i * D + d), parts[i]);
        }
    } else {
        for (int64_t i = 0; i < known; i++)
            for (int64_t d = 0; d < D; d += LANES)
                parts[i] = times_plus(load(query + d), load(key + i * D + d), parts[i]);
    }
    return sums_of(parts);
}

/* One row's scores to weights, not yet divided by the sum that is returned. */
static inline float weigh(float *scores, int64_t begin, int64_t end, int64_t low, int64_t high) {
    VF most = floats(-INFINITY), sum = floats(0);
    float lanes[LANES], largest = -INFINITY, total = 0;
    for (int64_t t = begin; t < end; t += LANES)
        most = larger(most, between(load(scores + t - begin), floats(-INFINITY), (int32_t)t, (int32_t)low, (int32_t)high));
    save(lanes, most);
    for (int i = 0; i < LANES; i++)
        largest = lanes[i] > largest ? lanes[i] : largest;
    for (int64_t t = begin; t < end; t += LANES) {
        const VF weight = exponential(sum_of(load(scores + t - begin), floats(-largest)));
        const VF kept = between(weight, floats(0), (int32_t)t, (int32_t)low, (int32_t)high);
        save(scores + t - begin, kept);
        sum = sum_of(sum, kept);
    }
    save(lanes, sum);
    for (int i = 0; i < LANES; i++)
        total += lanes[i];
    return total;
}

/* Dimensions of four rows that are mixed at once: as many as there are registers for their sums. */
#define MIXED (LANES == 16 ? 64 : 16)

/* `count` rows' weighted values, `width` of D dimensions at a time. */
static inline __attribute__((always_inline)) void
mix(const Attention *a, const float *weights, int64_t side, const float *totals, const float *values, float *y, int count,
    int width, int64_t begin, int64_t end) {
    for (int64_t d = 0; d < a->D; d += width) {
        VF parts[4][64 / LANES];
        for (int r = 0; r < count; r++)
            for (int v = 0; v < width / LANES; v++)
                parts[r][v] = floats(0);
        for (int64_t t = begin; t < end; t++) {
            VF value[64 / LANES];
            for (int v = 0; v < width / LANES; v++)
                value[v] = load(values + t * a->D + d + v * LANES);
            for (int r = 0; r < count; r++) {
                const VF weight = floats(weights[r * side + t - begin]);
                for (int v = 0; v < width / LANES; v++)
                    parts[r][v] = times_plus(weight, value[v], parts[r][v]);
            }
        }
        for (int r = 0; r < count; r++)
            for (int v = 0; v < width / LANES; v++)
                save(y + r * a->heads * a->D + d + v * LANES, times(parts[r][v], floats(1.0f / totals[r])));
    }
}

static void attend(const Attention *a, int64_t head, int64_t row, void *room) {
    const int64_t count = a->rows - row < QUERY_ROWS ? a->rows - row : QUERY_ROWS;
    const int64_t kv = head / (a->heads / a->kv_heads);
    const float *keys = a->keys + kv * a->capacity * a->D, *values = a->values + kv * a->capacity * a->D;
    const int64_t first = a->past + row, last = first + count - 1;
    /* Whole vectors from a place that is the same for a row whatever rows come with it. */
    const int64_t low = a->window > 0 && first - a->window + 1 > 0 ? first - a->window + 1 : 0;
    const int64_t begin = low / 16 * 16, end = last + 1, side = (end - begin + 15) / 16 * 16;
    float *scores = room, totals[QUERY_ROWS];
    for (int64_t t = begin; t < end; t += LANES)
        for (int64_t r = 0; r < count; r++) {
            const float *query = a->queries + ((row + r) * a->heads + head) * a->D;
            save(scores + r * side + t - begin, times(scores_of(query, keys + t * a->D, end - t, a->D), floats(a->scale)));
        }
    for (int64_t r = 0; r < count; r++) {
        const int64_t at = first + r, lowest = a->window > 0 && at - a->window + 1 > 0 ? at - a->window + 1 : 0;
        totals[r] = weigh(scores + r * side, begin, end, lowest, at);
    }
    float *y = a->y + (row * a->heads + head) * a->D;
    for (int64_t r = 0; r < count;) {
        const float *weights = scores + r * side;
        float *to = y + r * a->heads * a->D;
        const int together = count - r >= 4 ? 4 : 1;
        if (together == 4 && a->D % MIXED == 0)
            mix(a, weights, side, totals + r, values, to, 4, MIXED, begin, end);
        else if (together == 4)
            mix(a, weights, side, totals + r, values, to, 4, 16, begin, end);
        else if (a->D % 64 == 0)
            mix(a, weights, side, totals + r, values, to, 1, 64, begin, end);
        else
            mix(a, weights, side, totals + r, values, to, 1, 16, begin, end);
        r += together;
    }
}
