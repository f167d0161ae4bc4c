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

#include "operators.h"
#include "rooms.h"

#define EXPORTED __attribute__((visibility("default")))
/* Grows with each change that a graph or what it computes depends on; what was compiled from other sources is not used. */
#define REVISION 2

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

const Kernels *kernels(void) {
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

Status *no_memory(void) { return ort_status(ORT_FAIL, "out of memory"); }

Status *read_inputs(void *context, Inputs *inputs) {
    Status *status = ort_inputs(context, &inputs->count);
    for (size_t i = 0; !status && i < inputs->count && i < 8; i++) {
        status = ort_input(context, i, &inputs->value[i]);
        if (!status && inputs->value[i])
            status = ort_data((void *)inputs->value[i], &inputs->data[i]);
    }
    return status;
}

Status *sides_of(const void *value, int64_t *sides, size_t *rank) {
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

Status *output_of(void *context, size_t index, const int64_t *sides, size_t rank, float **to) {
    void *value, *data;
    Status *status = ort_output(context, index, sides, rank, &value);
    if (!status)
        status = ort_data(value, &data);
    if (!status)
        *to = data;
    return status;
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

/* Of which sources the library is, where this processor has what the operators need, else 0. */
EXPORTED int shammah_usable(void) { return kernels() ? REVISION : 0; }

/* One domain for all sessions, which outlive their options; made once, whoever comes first. */
static Status *domain_of_all(const OrtBase *base, void **domain) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static void *made;
    Status *status = NULL;
    pthread_mutex_lock(&lock);
    if (!made) {
        ort = base->table(ORT_VERSION);
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
    Status *status = domain_of_all(base, &domain);
    return status ? status : ort_add_domain(options, domain);
}
