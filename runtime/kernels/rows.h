/* What is done to whole rows around products and attention, over vectors of 8 of the file included before. */

void round_row(const Product *p, const float *x, int64_t row) {
    const int64_t size = p->K / p->blocks;
    int8_t *to = p->activations + row * p->K;
    for (int64_t block = 0; block < p->blocks; block++) {
        const float *from = x + row * p->K + block * size;
        VF most = floats(0), zeros = floats(0);
        for (int64_t i = 0; i < size; i += LANES) {
            most = larger(most, absolute(load(from + i)));
            zeros = times_plus(load(from + i), floats(0), zeros);
        }
        /* Of what is not finite nothing finite is made: a zero times that is no number. */
        float lanes[LANES], no_numbers[LANES], largest = 0, zero = 0;
        save(lanes, most);
        save(no_numbers, zeros);
        for (int i = 0; i < LANES; i++) {
            largest = lanes[i] > largest ? lanes[i] : largest;
            zero += no_numbers[i];
        }
        if (zero != 0) {
            memset(p->bits == 8 ? to + block * size : to + block * size / 2, 0, (size_t)(p->bits == 8 ? size : size / 2));
            if (p->bits == 4)
                memset(to + (p->K + block * size) / 2, 0, (size_t)size / 2);
            p->totals[row * p->blocks + block] = 0;
            p->scales_of_rows[row * p->blocks + block] = zero;
            continue;
        }
        /* Below that a factor would not be finite. */
        const VF factor = floats(largest > 1e-30f ? 127.0f / largest : 0.0f);
        int8_t rounded[64];
        VI total = integers(0);
        for (int64_t i = 0; i < size; i += LANES) {
            const VI whole = to_integers(times(load(from + i), factor));
            total = plus(total, whole);
            narrow(rounded + i, whole);
        }
        int32_t parts[LANES], sum = 0;
        memcpy(parts, &total, sizeof parts);
        for (int i = 0; i < LANES; i++)
            sum += parts[i];
        p->totals[row * p->blocks + block] = sum;
        p->scales_of_rows[row * p->blocks + block] = largest / 127.0f;
        if (p->bits == 8) {
            memcpy(to + block * size, rounded, (size_t)size);
            continue;
        }
        for (int64_t i = 0; i < size; i += 16)
            part(to + (block * size + i) / 2, to + p->K / 2 + (block * size + i) / 2, rounded + i);
    }
}

void gate(float *y, const float *gates, const float *ups, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        /* Of -|g|, so that the exponential stays within its range. */
        const VF g = load(gates + i), e = exponential(times(absolute(g), floats(-1)));
        const VF sigmoid = quotient(where_positive(g, floats(1), e), sum_of(floats(1), e));
        save(y + i, times(times(g, sigmoid), load(ups + i)));
    }
}

void rotate(float *restrict to, const float *restrict from, const float *restrict cosines, const float *restrict sines,
            int64_t half, int64_t D) {
    for (int64_t i = 0; i < half; i++) {
        const float low = from[i], high = from[half + i];
        to[i] = low * cosines[i] - high * sines[i];
        to[half + i] = low * sines[i] + high * cosines[i];
    }
    memcpy(to + 2 * half, from + 2 * half, (size_t)(D - 2 * half) * 4);
}
