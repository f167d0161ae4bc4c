/* Vectors of 16 for AVX-512 with VNNI. */

#include <immintrin.h>

#define LANES 16
#define VI __m512i
#define VF __m512
#define ZERO(bits) ((bits) == 4 ? 8 : 128)

static inline VI integers(int32_t value) { return _mm512_set1_epi32(value); }
static inline VI plus(VI a, VI b) { return _mm512_add_epi32(a, b); }
static inline VF floats(float value) { return _mm512_set1_ps(value); }
static inline VF load(const float *from) { return _mm512_loadu_ps(from); }
static inline void save(float *to, VF values) { _mm512_storeu_ps(to, values); }
static inline VF times(VF a, VF b) { return _mm512_mul_ps(a, b); }
static inline VF sum_of(VF a, VF b) { return _mm512_add_ps(a, b); }
static inline VF times_plus(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }
static inline VF larger(VF a, VF b) { return _mm512_max_ps(a, b); }
static inline VF to_floats(VI whole) { return _mm512_cvtepi32_ps(whole); }
static inline VI to_integers(VF values) { return _mm512_cvtps_epi32(values); }
static inline VF scaled(VF values, VI power) { return _mm512_scalef_ps(values, _mm512_cvtepi32_ps(power)); }

static inline VF between(VF values, VF others, int32_t first, int32_t low, int32_t high) {
    const VI at = plus(integers(first), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    const __mmask16 inside = _mm512_cmpge_epi32_mask(at, integers(low)) & _mm512_cmple_epi32_mask(at, integers(high));
    return _mm512_mask_blend_ps(inside, others, values);
}

static inline VI dot(VI sum, VI codes, int32_t four) { return _mm512_dpbusd_epi32(sum, codes, integers(four)); }

static inline VI both_dots(VI sum, VI low, VI high, int32_t even, int32_t odd) {
    return dot(dot(sum, low, even), high, odd);
}

static inline void turn(VI *to, const VI *from) {
    VI pairs[16], fours[16];
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(from[i], from[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(from[i], from[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        const VI a = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0x88);
        const VI b = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0xdd);
        const VI c = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0x88);
        const VI d = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0xdd);
        to[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        to[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        to[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        to[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

static inline VF sums_of(const VF *from) {
    VF pairs[8], fours[4];
    for (int i = 0; i < 8; i++)
        pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(from[2 * i], from[2 * i + 1]),
                                 _mm512_unpackhi_ps(from[2 * i], from[2 * i + 1]));
    for (int i = 0; i < 4; i++)
        fours[i] = _mm512_add_ps(_mm512_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0x44),
                                 _mm512_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0xee));
    VF halves[2];
    for (int i = 0; i < 2; i++)
        halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0x88),
                                  _mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0xdd));
    const VF low = halves[0], high = halves[1];
    return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

static inline __mmask16 first_of(int64_t count) { return (__mmask16)((1u << count) - 1); }

static inline void transpose(VI *to, const uint8_t *from, int64_t stride, int64_t bytes, int64_t outputs) {
    VI rows[16];
    for (int i = 0; i < 16; i++) {
        const uint8_t *row = from + (i < outputs ? i : 0) * stride;
        rows[i] = _mm512_maskz_loadu_epi32(first_of(bytes / 4), row);
        /* The tile behind this one. */
        _mm_prefetch((const char *)row + 16 * stride, _MM_HINT_T1);
    }
    turn(to, rows);
}

static inline void spread(VI *codes, int bits) {
    if (bits == 4)
        for (int i = 0; i < 16; i++) {
            codes[16 + i] = _mm512_and_si512(_mm512_srli_epi16(codes[i], 4), _mm512_set1_epi8(15));
            codes[i] = _mm512_and_si512(codes[i], _mm512_set1_epi8(15));
        }
}

static inline void scales_of(VF *to, const float *from, int64_t stride, int64_t count, int64_t outputs) {
    VI rows[16], turned[16];
    for (int i = 0; i < 16; i++)
        rows[i] = _mm512_maskz_loadu_epi32(first_of(count), from + (i < outputs ? i : 0) * stride);
    turn(turned, rows);
    for (int i = 0; i < 16; i++)
        to[i] = _mm512_castsi512_ps(turned[i]);
}

static inline void store(float *to, const float *bias, VF values, int64_t outputs) {
    if (bias)
        values = _mm512_add_ps(values, _mm512_maskz_loadu_ps(first_of(outputs), bias));
    _mm512_mask_storeu_ps(to, first_of(outputs), values);
}

static inline __attribute__((always_inline)) void
single(VI *to, const uint8_t *from, int64_t stride, int64_t bytes, int64_t outputs, int bits, int together, const int8_t *even,
       const int8_t *odd) {
    const __mmask16 inside = first_of(bytes / 4);
    const VI first = _mm512_loadu_si512(even), second = bits == 4 ? _mm512_loadu_si512(odd) : first;
    VI sums[16], pairs[8], fours[4];
    for (int i = 0; i < 16; i++) {
        const uint8_t *row = from + (i < outputs ? i : 0) * stride;
        const VI codes = _mm512_maskz_loadu_epi32(inside, row);
        _mm_prefetch((const char *)row + 16 * stride, _MM_HINT_T0);
        if (bits == 4)
            sums[i] = _mm512_dpbusd_epi32(
                _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(codes, _mm512_set1_epi8(15)), first),
                _mm512_and_si512(_mm512_srli_epi16(codes, 4), _mm512_set1_epi8(15)), second);
        else
            sums[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, first);
    }
    for (int i = 0; i < 8; i++)
        pairs[i] =
            plus(_mm512_unpacklo_epi32(sums[2 * i], sums[2 * i + 1]), _mm512_unpackhi_epi32(sums[2 * i], sums[2 * i + 1]));
    for (int i = 0; i < 4; i++)
        fours[i] =
            plus(_mm512_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]), _mm512_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));
    const VI a = _mm512_shuffle_i32x4(fours[0], fours[1], 0x88), b = _mm512_shuffle_i32x4(fours[0], fours[1], 0xdd);
    const VI c = _mm512_shuffle_i32x4(fours[2], fours[3], 0x88), d = _mm512_shuffle_i32x4(fours[2], fours[3], 0xdd);
    if (together == 4) {
        const VI low = plus(a, b), high = plus(c, d);
        to[0] = plus(_mm512_shuffle_i32x4(low, high, 0x88), _mm512_shuffle_i32x4(low, high, 0xdd));
        return;
    }
    const VI pieces[4] = {_mm512_shuffle_i32x4(a, c, 0x88), _mm512_shuffle_i32x4(b, d, 0x88),
                          _mm512_shuffle_i32x4(a, c, 0xdd), _mm512_shuffle_i32x4(b, d, 0xdd)};
    for (int block = 0; block < 4 / together; block++)
        to[block] = together == 2 ? plus(pieces[2 * block], pieces[2 * block + 1]) : pieces[block];
}
