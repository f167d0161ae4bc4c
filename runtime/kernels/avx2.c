/* The kernels for AVX2 with FMA, and what all instruction sets share. */

#include <math.h>
#include <string.h>

#include "kernels.h"

#include "avx2.h"
#include "products.h"
#include "attention.h"

const Kernels kernels_avx2 = {LANES, product_tile, attend};

void round_row(const Product *p, const float *x, int64_t row) {
    const int64_t size = p->K / p->blocks;
    int8_t *to = p->activations + row * p->K;
    for (int64_t block = 0; block < p->blocks; block++) {
        const float *from = x + row * p->K + block * size;
        VF most = floats(0);
        for (int64_t i = 0; i < size; i += 8)
            most = larger(most, _mm256_andnot_ps(floats(-0.0f), load(from + i)));
        float lanes[8], largest = 0;
        save(lanes, most);
        for (int i = 0; i < 8; i++)
            largest = lanes[i] > largest ? lanes[i] : largest;
        /* Below that a factor would not be finite. */
        const VF factor = floats(largest > 1e-30f ? 127.0f / largest : 0.0f);
        int8_t rounded[64];
        VI total = integers(0);
        for (int64_t i = 0; i < size; i += 8) {
            const VI whole = to_integers(times(load(from + i), factor));
            total = plus(total, whole);
            const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
            _mm_storel_epi64((__m128i *)(rounded + i), _mm_packs_epi16(narrow, narrow));
        }
        int32_t parts[8], sum = 0;
        memcpy(parts, &total, sizeof parts);
        for (int i = 0; i < 8; i++)
            sum += parts[i];
        p->totals[row * p->blocks + block] = sum;
        p->scales_of_rows[row * p->blocks + block] = largest / 127.0f;
        if (p->bits == 8) {
            memcpy(to + block * size, rounded, (size_t)size);
            continue;
        }
        const __m128i order = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
        for (int64_t i = 0; i < size; i += 16) {
            const __m128i sorted = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(rounded + i)), order);
            _mm_storel_epi64((__m128i *)(to + (block * size + i) / 2), sorted);
            _mm_storel_epi64((__m128i *)(to + p->K / 2 + (block * size + i) / 2), _mm_srli_si128(sorted, 8));
        }
    }
}

void gate(float *y, const float *gates, const float *ups, int64_t n) {
    for (int64_t i = 0; i < n; i += 8) {
        /* Of -|g|, so that the exponential stays within its range. */
        const VF g = load(gates + i), negative = _mm256_or_ps(g, floats(-0.0f));
        const VF e = exponential(negative);
        const VF above = _mm256_cmp_ps(g, floats(0), _CMP_GE_OQ);
        const VF sigmoid = quotient(_mm256_blendv_ps(e, floats(1), above), sum_of(floats(1), e));
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
