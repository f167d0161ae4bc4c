/* Operators of the domain `shammah` for ONNX Runtime, in place of nodes of a published graph:

  BlockProduct     what MatMulNBits is, without zero points
  GatedProduct     the same, whose first half of outputs, through SiLU, multiplies the second half
  CachedAttention  rotation, cache and attention of packed queries, keys and values: queries_keys_values [1, S, (heads +
                   2 kv_heads) * D], past keys and values [1, kv_heads, P, D], tokens in the cache afterwards [1], cosines and
                   sines [positions, D / 2 or less]; gives [1, S, heads * D] and the cache, which may be the past one's memory

What a row of a result is does not depend, to the last bit, on the other rows. */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "kernels.h"
#include "ort.h"
#include "rooms.h"

#define EXPORTED __attribute__((visibility("default")))
/* In how many pieces the work of an operator is shared out among threads, at most. */
#define PIECES 8
/* Rows from which on rounding them is shared out too. */
#define MANY_ROWS 8

const Function *ort;

#if defined(__aarch64__)
/* Linux tells what a processor has; all that Apple makes for its computers have it. */
static int has_dot_products(void) {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & (1 << 20)) != 0; /* HWCAP_ASIMDDP */
#else
    return 1;
#endif
}
#endif

/* The best that this processor can run, or the plainest, where that is wanted by its name; null where it can run none. */
static const Kernels *kernels(void) {
    const char *wanted = getenv("SHAMMAH_KERNELS");
#if defined(__aarch64__)
    return (!wanted || strcmp(wanted, "neon")) && has_dot_products() ? &kernels_dot : &kernels_neon;
#else
    const int best = !wanted || strcmp(wanted, "avx2");
    if (best && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni"))
        return &kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &kernels_avx2;
    return NULL;
#endif
}

static Status *no_memory(void) { return ort_status(ORT_FAIL, "out of memory"); }

typedef struct {
    const void *value[8];
    void *data[8];
    size_t count;
} Inputs;

static Status *read_inputs(void *context, Inputs *inputs) {
    Status *status = ort_inputs(context, &inputs->count);
    for (size_t i = 0; !status && i < inputs->count && i < 8; i++) {
        status = ort_input(context, i, &inputs->value[i]);
        if (!status && inputs->value[i])
            status = ort_data((void *)inputs->value[i], &inputs->data[i]);
    }
    return status;
}

static Status *sides_of(const void *value, int64_t *sides, size_t *rank) {
    void *shape;
    Status *status = ort_shape(value, &shape);
    if (status)
        return status;
    status = ort_rank(shape, rank);
    if (!status && (*rank < 1 || *rank > 8))
        status = ort_status(ORT_FAIL, "a tensor has one to eight dimensions");
    if (!status)
        status = ort_sides(shape, sides, *rank);
    ort_release_shape(shape);
    return status;
}

static Status *output_of(void *context, size_t index, const int64_t *sides, size_t rank, float **to) {
    void *value, *data;
    Status *status = ort_output(context, index, sides, rank, &value);
    if (!status)
        status = ort_data(value, &data);
    if (!status)
        *to = data;
    return status;
}

/* Products. */

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
    int failed;
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

static Status *product_run(void *kernel, void *context) {
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

static Status *product_create(const void *info, int gated, void **kernel) {
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

/* Attention. */

typedef struct {
    int64_t heads, kv_heads, window;
    float scale;
    const Kernels *kernels;
} AttentionKernel;

typedef struct {
    Attention attention;
    const Kernels *kernels;
    int64_t units, pieces;
    int failed;
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

static Status *attention_run(void *kernel, void *context) {
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

static Status *attention_create(const void *info, void **kernel) {
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

/* How the operators present themselves. */

static const Operator products[2], attention;

static Status *create(const Operator *self, const void *api, const void *info, void **kernel) {
    (void)api;
    return self == &attention ? attention_create(info, kernel) : product_create(info, self == &products[1], kernel);
}

static const char *name(const Operator *self) {
    return self == &attention ? "CachedAttention" : self == &products[1] ? "GatedProduct" : "BlockProduct";
}

static const char *no_provider(const Operator *self) { return (void)self, NULL; }
static size_t six(const Operator *self) { return (void)self, 6; }
static size_t outputs(const Operator *self) { return self == &attention ? 3 : 1; }
static int product_input(const Operator *self, size_t i) { return (void)self, i == 1 || i == 3 ? ORT_UINT8 : ORT_FLOAT; }
static int attention_input(const Operator *self, size_t i) { return (void)self, i == 3 ? ORT_INT32 : ORT_FLOAT; }
static int output_type(const Operator *self, size_t i) { return (void)self, (void)i, ORT_FLOAT; }
static int input_presence(const Operator *self, size_t i) { return self == &attention || i < 3 ? ORT_REQUIRED : ORT_OPTIONAL; }
static int required(const Operator *self, size_t i) { return (void)self, (void)i, ORT_REQUIRED; }
static int default_memory(const Operator *self, size_t i) { return (void)self, (void)i, 0; }
static int only_version(const Operator *self) { return (void)self, 1; }

#define OPERATOR(input, run)                                                                                              \
    {                                                                                                                     \
        .version = ORT_VERSION, .name = name, .provider = no_provider, .input_type = input, .input_count = six,           \
        .output_type = output_type, .output_count = outputs, .destroy = free, .input_presence = input_presence,           \
        .output_presence = required, .input_memory = default_memory, .create_or_fail = create, .compute_or_fail = run,    \
        .first_version = only_version, .last_version = only_version                                                       \
    }

static const Operator products[2] = {OPERATOR(product_input, product_run), OPERATOR(product_input, product_run)};
static const Operator attention = OPERATOR(attention_input, attention_run);

/* Whether this processor has what the operators need. */
EXPORTED int shammah_usable(void) { return kernels() != NULL; }

/* One domain for all sessions, which outlive their options; made once, whoever comes first. */
static Status *domain_of_all(void **domain) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static void *made;
    Status *status = NULL;
    pthread_mutex_lock(&lock);
    if (!made) {
        status = open_rooms() ? ort_create_domain("shammah", &made) : no_memory();
        for (int i = 0; !status && i < 2; i++)
            status = ort_domain_add(made, &products[i]);
        if (!status)
            status = ort_domain_add(made, &attention);
    }
    pthread_mutex_unlock(&lock);
    *domain = made;
    return status;
}

EXPORTED Status *RegisterCustomOps(void *options, const OrtBase *base) {
    void *domain;
    ort = base->table(ORT_VERSION);
    Status *status = domain_of_all(&domain);
    return status ? status : ort_add_domain(options, domain);
}
