/* Vectors of 8, in two registers, for ARMv8; with the dot products of ARMv8.2 where the compiler may use them. Sums are in the
   order of avx2.h, so that both give the same bits. */

#include <arm_neon.h>
#include <string.h>

#define LANES 8
typedef struct {
    int32x4_t half[2];
} VI;
typedef struct {
    float32x4_t half[2];
} VF;
/* What codes are above their value: those of 8 bits are made signed, as activations are. */
#define ZERO(bits) ((bits) == 4 ? 8 : 0)

#define BOTH(type, what) ((type){{what(0), what(1)}})

static inline VI integers(int32_t value) { return (VI){{vdupq_n_s32(value), vdupq_n_s32(value)}}; }
static inline VF floats(float value) { return (VF){{vdupq_n_f32(value), vdupq_n_f32(value)}}; }
static inline VF load(const float *from) { return (VF){{vld1q_f32(from), vld1q_f32(from + 4)}}; }

static inline void save(float *to, VF values) {
    vst1q_f32(to, values.half[0]);
    vst1q_f32(to + 4, values.half[1]);
}

#define EACH(i) vaddq_s32(a.half[i], b.half[i])
static inline VI plus(VI a, VI b) { return BOTH(VI, EACH); }
#undef EACH
#define EACH(i) vmulq_f32(a.half[i], b.half[i])
static inline VF times(VF a, VF b) { return BOTH(VF, EACH); }
#undef EACH
#define EACH(i) vaddq_f32(a.half[i], b.half[i])
static inline VF sum_of(VF a, VF b) { return BOTH(VF, EACH); }
#undef EACH
#define EACH(i) vfmaq_f32(c.half[i], a.half[i], b.half[i])
static inline VF times_plus(VF a, VF b, VF c) { return BOTH(VF, EACH); }
#undef EACH
#define EACH(i) vmaxq_f32(a.half[i], b.half[i])
static inline VF larger(VF a, VF b) { return BOTH(VF, EACH); }
#undef EACH
#define EACH(i) vdivq_f32(a.half[i], b.half[i])
static inline VF quotient(VF a, VF b) { return BOTH(VF, EACH); }
#undef EACH
#define EACH(i) vcvtq_f32_s32(whole.half[i])
static inline VF to_floats(VI whole) { return BOTH(VF, EACH); }
#undef EACH
#define EACH(i) vcvtnq_s32_f32(values.half[i])
static inline VI to_integers(VF values) { return BOTH(VI, EACH); }
#undef EACH
#define EACH(i) vabsq_f32(values.half[i])
static inline VF absolute(VF values) { return BOTH(VF, EACH); }
#undef EACH
#define EACH(i) vbslq_f32(vcgezq_f32(test.half[i]), yes.half[i], no.half[i])
static inline VF where_positive(VF test, VF yes, VF no) { return BOTH(VF, EACH); }
#undef EACH
#define EACH(i) vmulq_f32(values.half[i], vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(power.half[i], vdupq_n_s32(127)), 23)))
static inline VF scaled(VF values, VI power) { return BOTH(VF, EACH); }
#undef EACH

static inline VF between(VF values, VF others, int32_t first, int32_t low, int32_t high) {
    static const int32_t places[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    VF found;
    for (int i = 0; i < 2; i++) {
        const int32x4_t at = vaddq_s32(vdupq_n_s32(first), vld1q_s32(places + 4 * i));
        const uint32x4_t inside = vandq_u32(vcgeq_s32(at, vdupq_n_s32(low)), vcleq_s32(at, vdupq_n_s32(high)));
        found.half[i] = vbslq_f32(inside, values.half[i], others.half[i]);
    }
    return found;
}

static inline void narrow(int8_t *to, VI whole) {
    vst1_s8(to, vqmovn_s16(vcombine_s16(vqmovn_s32(whole.half[0]), vqmovn_s32(whole.half[1]))));
}

static inline void part(int8_t *even, int8_t *odd, const int8_t *from) {
    const int8x8x2_t parted = vld2_s8(from);
    vst1_s8(even, parted.val[0]);
    vst1_s8(odd, parted.val[1]);
}

/* sum + the products of 16 pairs of bytes, four a lane */
static inline int32x4_t four_dots(int32x4_t sum, int8x16_t a, int8x16_t b) {
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, a, b);
#else
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vaddq_s32(sum, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(a, b))));
#endif
}

static inline VI dot(VI sum, VI codes, int32_t four) {
    const int8x16_t activations = vreinterpretq_s8_s32(vdupq_n_s32(four));
    for (int i = 0; i < 2; i++)
        sum.half[i] = four_dots(sum.half[i], vreinterpretq_s8_s32(codes.half[i]), activations);
    return sum;
}

static inline VI both_dots(VI sum, VI low, VI high, int32_t even, int32_t odd) {
    return dot(dot(sum, low, even), high, odd);
}

/* Four by four, turned. */
static inline void turn_four(int32x4_t *to, const int32x4_t *from) {
    const int32x4_t a = vtrn1q_s32(from[0], from[1]), b = vtrn2q_s32(from[0], from[1]);
    const int32x4_t c = vtrn1q_s32(from[2], from[3]), d = vtrn2q_s32(from[2], from[3]);
#define PAIRED(how, x, y) vreinterpretq_s32_s64(how(vreinterpretq_s64_s32(x), vreinterpretq_s64_s32(y)))
    to[0] = PAIRED(vtrn1q_s64, a, c);
    to[1] = PAIRED(vtrn1q_s64, b, d);
    to[2] = PAIRED(vtrn2q_s64, a, c);
    to[3] = PAIRED(vtrn2q_s64, b, d);
#undef PAIRED
}

/* The sums of LANES vectors, a lane each. */
static inline VF sums_of(const VF *from) {
    VF found;
    for (int i = 0; i < 2; i++) {
        float32x4_t halves[2];
        for (int half = 0; half < 2; half++) {
            const VF *four = from + 4 * i;
            const float32x4_t a = four[0].half[half], b = four[1].half[half], c = four[2].half[half], d = four[3].half[half];
            const float64x2_t p = vreinterpretq_f64_f32(vaddq_f32(vzip1q_f32(a, b), vzip2q_f32(a, b)));
            const float64x2_t q = vreinterpretq_f64_f32(vaddq_f32(vzip1q_f32(c, d), vzip2q_f32(c, d)));
            halves[half] = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(p, q)), vreinterpretq_f32_f64(vzip2q_f64(p, q)));
        }
        found.half[i] = vaddq_f32(halves[0], halves[1]);
    }
    return found;
}

/* The 16 bytes from `at` on, if they are among the first `bytes`, or zeros. A block of codes has 8 bytes at the least. */
static inline int8x16_t sixteen(const uint8_t *from, int64_t at, int64_t bytes) {
    if (at + 16 <= bytes)
        return vld1q_s8((const int8_t *)from + at);
    return at + 8 <= bytes ? vcombine_s8(vld1_s8((const int8_t *)from + at), vdup_n_s8(0)) : vdupq_n_s8(0);
}

static inline __attribute__((always_inline)) void
transpose_some(VI *to, const uint8_t *from, int64_t stride, int64_t bytes, int64_t outputs) {
    for (int half = 0; half < 2; half++) {
        const uint8_t *rows[4];
        for (int i = 0; i < 4; i++) {
            rows[i] = from + (4 * half + i < outputs ? 4 * half + i : 0) * stride;
            /* The tile behind this one. */
            __builtin_prefetch(rows[i] + 8 * stride, 0, 2);
        }
        for (int at = 0; at < 4; at++) {
            int32x4_t pieces[4], turned[4];
            for (int i = 0; i < 4; i++)
                pieces[i] = vreinterpretq_s32_s8(sixteen(rows[i], 16 * at, bytes));
            turn_four(turned, pieces);
            for (int i = 0; i < 4; i++)
                to[4 * at + i].half[half] = turned[i];
        }
    }
}

/* Four bytes of each of `outputs` rows to a vector, for the first `bytes` of 64. */
static inline void transpose(VI *to, const uint8_t *from, int64_t stride, int64_t bytes, int64_t outputs) {
    if (bytes == 64)
        transpose_some(to, from, stride, 64, outputs);
    else
        transpose_some(to, from, stride, bytes, outputs);
}

static inline int8x16_t signed_codes(int8x16_t codes) { return veorq_s8(codes, vdupq_n_s8((int8_t)0x80)); }
static inline int8x16_t low_codes(int8x16_t codes) { return vandq_s8(codes, vdupq_n_s8(15)); }
static inline int8x16_t high_codes(int8x16_t codes) {
    return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(codes), 4));
}

/* 16 vectors of bytes to as many codes of 8 bits, or twice as many of 4. */
static inline void spread(VI *codes, int bits) {
    for (int i = 0; i < 16; i++)
        for (int half = 0; half < 2; half++) {
            const int8x16_t bytes = vreinterpretq_s8_s32(codes[i].half[half]);
            if (bits == 4) {
                codes[16 + i].half[half] = vreinterpretq_s32_s8(high_codes(bytes));
                codes[i].half[half] = vreinterpretq_s32_s8(low_codes(bytes));
            } else {
                codes[i].half[half] = vreinterpretq_s32_s8(signed_codes(bytes));
            }
        }
}

/* The first `count` of 16 scales of each of `outputs` rows, a vector for each. */
static inline void scales_of(VF *to, const float *from, int64_t stride, int64_t count, int64_t outputs) {
    for (int half = 0; half < 2; half++) {
        const float *rows[4];
        for (int i = 0; i < 4; i++)
            rows[i] = from + (4 * half + i < outputs ? 4 * half + i : 0) * stride;
        int64_t at = 0;
        for (; at + 4 <= count; at += 4) {
            int32x4_t four[4], turned[4];
            for (int i = 0; i < 4; i++)
                four[i] = vreinterpretq_s32_f32(vld1q_f32(rows[i] + at));
            turn_four(turned, four);
            for (int i = 0; i < 4; i++)
                to[at + i].half[half] = vreinterpretq_f32_s32(turned[i]);
        }
        for (; at < count; at++)
            to[at].half[half] = (float32x4_t){rows[0][at], rows[1][at], rows[2][at], rows[3][at]};
    }
}

static inline void store(float *to, const float *bias, VF values, int64_t outputs) {
    float part[LANES];
    save(part, values);
    for (int64_t i = 0; i < outputs; i++)
        to[i] = part[i] + (bias ? bias[i] : 0.0f);
}

static inline __attribute__((always_inline)) void
single_some(VI *to, const uint8_t *from, int64_t stride, int64_t bytes, int64_t outputs, int bits, int together, const int8_t *even,
       const int8_t *odd) {
    int32x4_t sums[4][8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const uint8_t *row = from + (i < outputs ? i : 0) * stride;
        /* The tile behind this one. */
        __builtin_prefetch(row + 8 * stride, 0, 3);
        for (int block = 0; block < 4 / together; block++)
            sums[block][i] = vdupq_n_s32(0);
#pragma GCC unroll 4
        for (int piece = 0; piece < 4; piece++) {
            const int8x16_t codes = sixteen(row, 16 * piece, bytes), first = vld1q_s8(even + 16 * piece);
            int32x4_t *sum = &sums[piece / together][i];
            if (bits == 4)
                *sum = four_dots(four_dots(*sum, low_codes(codes), first), high_codes(codes), vld1q_s8(odd + 16 * piece));
            else
                *sum = four_dots(*sum, signed_codes(codes), first);
        }
    }
    for (int block = 0; block < 4 / together; block++)
        for (int half = 0; half < 2; half++) {
            const int32x4_t *four = sums[block] + 4 * half;
            to[block].half[half] = vpaddq_s32(vpaddq_s32(four[0], four[1]), vpaddq_s32(four[2], four[3]));
        }
}

/* What the blocks of `together` pieces of 16 bytes add up to, in the first `bytes` of 64 of each row: a vector a block. */
static inline __attribute__((always_inline)) void
single(VI *to, const uint8_t *from, int64_t stride, int64_t bytes, int64_t outputs, int bits, int together, const int8_t *even,
       const int8_t *odd) {
    if (bytes == 64)
        single_some(to, from, stride, 64, outputs, bits, together, even, odd);
    else
        single_some(to, from, stride, bytes, outputs, bits, together, even, odd);
}
