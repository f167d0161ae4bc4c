/* Vectors of 8 for AVX2 with FMA. */

#include <immintrin.h>
#include <string.h>

#define LANES 8
#define VI __m256i
#define VF __m256
/* What codes are above their value: those of 8 bits are made signed, for the product of unsigned and signed bytes saturates. */
#define ZERO(bits) ((bits) == 4 ? 8 : 0)

static inline VI integers(int32_t value) { return _mm256_set1_epi32(value); }
static inline VI plus(VI a, VI b) { return _mm256_add_epi32(a, b); }
static inline VF floats(float value) { return _mm256_set1_ps(value); }
static inline VF load(const float *from) { return _mm256_loadu_ps(from); }
static inline void save(float *to, VF values) { _mm256_storeu_ps(to, values); }
static inline VF times(VF a, VF b) { return _mm256_mul_ps(a, b); }
static inline VF sum_of(VF a, VF b) { return _mm256_add_ps(a, b); }
static inline VF times_plus(VF a, VF b, VF c) { return _mm256_fmadd_ps(a, b, c); }
static inline VF larger(VF a, VF b) { return _mm256_max_ps(a, b); }
static inline VF to_floats(VI whole) { return _mm256_cvtepi32_ps(whole); }
static inline VI to_integers(VF values) { return _mm256_cvtps_epi32(values); }
static inline VF quotient(VF a, VF b) { return _mm256_div_ps(a, b); }

static inline VF absolute(VF values) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), values); }

/* Those of `yes` where `test` is at least 0, elsewhere those of `no`. */
static inline VF where_positive(VF test, VF yes, VF no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(test, _mm256_setzero_ps(), _CMP_GE_OQ));
}

/* Numbers within those of a byte, as bytes. */
static inline void narrow(int8_t *to, VI whole) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i *)to, _mm_packs_epi16(words, words));
}

/* Of 16 bytes those with even numbers and those with odd ones. */
static inline void part(int8_t *even, int8_t *odd, const int8_t *from) {
    const __m128i order = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    const __m128i sorted = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)from), order);
    _mm_storel_epi64((__m128i *)even, sorted);
    _mm_storel_epi64((__m128i *)odd, _mm_srli_si128(sorted, 8));
}

/* values * 2 ** power */
static inline VF scaled(VF values, VI power) {
    return _mm256_mul_ps(values, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(power, integers(127)), 23)));
}

/* Of the values at places first, first + 1 ...: those at places from `low` to `high`, others replaced. */
static inline VF between(VF values, VF others, int32_t first, int32_t low, int32_t high) {
    const VI at = _mm256_add_epi32(integers(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const VI outside = _mm256_or_si256(_mm256_cmpgt_epi32(integers(low), at), _mm256_cmpgt_epi32(at, integers(high)));
    return _mm256_blendv_ps(values, others, _mm256_castsi256_ps(outside));
}

static inline VI dot(VI sum, VI codes, int32_t four) {
    /* |codes| is at most 128, and two products of 128 and 127 fit into 16 bits. */
    const VI pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(integers(four), codes));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* The same for codes of 4 bits, which are not signed: the lower ones with `even`, the upper ones with `odd`. */
static inline VI both_dots(VI sum, VI low, VI high, int32_t even, int32_t odd) {
    const VI pairs =
        _mm256_add_epi16(_mm256_maddubs_epi16(low, integers(even)), _mm256_maddubs_epi16(high, integers(odd)));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline void turn(VI *to, const VI *from) {
    VI pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_epi32(from[i], from[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(from[i], from[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        to[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        to[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

/* The sums of LANES vectors, a lane each. */
static inline VF sums_of(const VF *from) {
    VF pairs[4], fours[2];
    for (int i = 0; i < 4; i++)
        pairs[i] = _mm256_add_ps(_mm256_unpacklo_ps(from[2 * i], from[2 * i + 1]),
                                 _mm256_unpackhi_ps(from[2 * i], from[2 * i + 1]));
    for (int i = 0; i < 2; i++)
        fours[i] = _mm256_add_ps(_mm256_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0x44),
                                 _mm256_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0xee));
    return _mm256_add_ps(_mm256_permute2f128_ps(fours[0], fours[1], 0x20), _mm256_permute2f128_ps(fours[0], fours[1], 0x31));
}

/* The first `bytes` of 32, if more than none, and zeros. */
static inline VI first_of(const void *from, int64_t bytes) {
    const VI inside = _mm256_cmpgt_epi32(integers((int32_t)(bytes / 4)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_maskload_epi32(from, inside);
}

/* Four bytes of each of `outputs` rows to a vector, for the first `bytes` of 64. */
static inline void transpose(VI *to, const uint8_t *from, int64_t stride, int64_t bytes, int64_t outputs) {
    VI rows[2][8];
    for (int i = 0; i < 8; i++) {
        const uint8_t *row = from + (i < outputs ? i : 0) * stride;
        _mm_prefetch((const char *)row + 8 * stride, _MM_HINT_T1);
        rows[0][i] = first_of(row, bytes);
        rows[1][i] = first_of(row + 32, bytes - 32);
    }
    turn(to, rows[0]);
    turn(to + 8, rows[1]);
}

/* 16 vectors of bytes to as many codes of 8 bits, or twice as many of 4. */
static inline void spread(VI *codes, int bits) {
    for (int i = 0; i < 16; i++) {
        if (bits == 4) {
            codes[16 + i] = _mm256_and_si256(_mm256_srli_epi16(codes[i], 4), _mm256_set1_epi8(15));
            codes[i] = _mm256_and_si256(codes[i], _mm256_set1_epi8(15));
        } else {
            codes[i] = _mm256_xor_si256(codes[i], _mm256_set1_epi8((char)0x80));
        }
    }
}

/* The first `count` of 16 scales of each of `outputs` rows, a vector for each. */
static inline void scales_of(VF *to, const float *from, int64_t stride, int64_t count, int64_t outputs) {
    for (int64_t half = 0; half < count; half += 8) {
        VI rows[8], turned[8];
        for (int i = 0; i < 8; i++) {
            rows[i] = first_of(from + (i < outputs ? i : 0) * stride + half, 4 * (count - half));
        }
        turn(turned, rows);
        for (int i = 0; i < 8; i++)
            to[half + i] = _mm256_castsi256_ps(turned[i]);
    }
}

static inline void store(float *to, const float *bias, VF values, int64_t outputs) {
    float part[LANES];
    save(part, values);
    for (int64_t i = 0; i < outputs; i++)
        to[i] = part[i] + (bias ? bias[i] : 0.0f);
}

/* The products of 32 bytes of codes with one row of activations, in 8 sums of four. */
static inline __attribute__((always_inline)) VI products_of(VI codes, int bits, const int8_t *even, const int8_t *odd) {
    const VI first = _mm256_loadu_si256((const VI *)even), low = _mm256_set1_epi8(15);
    VI both;
    if (bits == 4) {
        const VI second = _mm256_loadu_si256((const VI *)odd);
        both = _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(codes, low), first),
                                _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 4), low), second));
    } else {
        codes = _mm256_xor_si256(codes, _mm256_set1_epi8((char)0x80));
        both = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(first, codes));
    }
    return _mm256_madd_epi16(both, _mm256_set1_epi16(1));
}

/* The sums of eight rows' pieces of 16 bytes, of which a vector has two. */
static inline void pieces_of(VI *to, const VI *sums) {
    VI pairs[4], fours[2];
    for (int i = 0; i < 4; i++)
        pairs[i] =
            plus(_mm256_unpacklo_epi32(sums[2 * i], sums[2 * i + 1]), _mm256_unpackhi_epi32(sums[2 * i], sums[2 * i + 1]));
    for (int i = 0; i < 2; i++)
        fours[i] =
            plus(_mm256_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]), _mm256_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));
    to[0] = _mm256_permute2x128_si256(fours[0], fours[1], 0x20);
    to[1] = _mm256_permute2x128_si256(fours[0], fours[1], 0x31);
}

/* What the blocks of `together` pieces of 16 bytes add up to, in the first `bytes` of 64 of each row: a vector a block. */
static inline __attribute__((always_inline)) void
single(VI *to, const uint8_t *from, int64_t stride, int64_t bytes, int64_t outputs, int bits, int together, const int8_t *even,
       const int8_t *odd) {
    VI sums[2][8], pieces[4];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const uint8_t *row = from + (i < outputs ? i : 0) * stride;
        /* The tile behind this one. */
        _mm_prefetch((const char *)row + 8 * stride, _MM_HINT_T0);
        sums[0][i] = products_of(first_of(row, bytes), bits, even, odd);
        sums[1][i] = products_of(first_of(row + 32, bytes - 32), bits, even + 32, odd + 32);
    }
    if (together == 4) {
        for (int i = 0; i < 8; i++)
            sums[0][i] = plus(sums[0][i], sums[1][i]);
        pieces_of(pieces, sums[0]);
        to[0] = plus(pieces[0], pieces[1]);
        return;
    }
    pieces_of(pieces, sums[0]);
    pieces_of(pieces + 2, sums[1]);
    for (int block = 0; block < 4 / together; block++)
        to[block] = together == 2 ? plus(pieces[2 * block], pieces[2 * block + 1]) : pieces[block];
}
