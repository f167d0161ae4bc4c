/* What the operators share: how they reach their tensors, and the kernels of this processor. */

#ifndef SHAMMAH_OPERATORS_H
#define SHAMMAH_OPERATORS_H

#include "kernels.h"
#include "ort.h"

typedef struct {
    const void *value[8];
    void *data[8];
    size_t count;
} Inputs;

Status *no_memory(void);
Status *read_inputs(void *context, Inputs *inputs);

/* The sizes of a tensor of up to eight dimensions. */
Status *sides_of(const void *value, int64_t *sides, size_t *rank);
Status *output_of(void *context, size_t index, const int64_t *sides, size_t rank, float **to);

/* The best that this processor can run, or the plainest, where that is wanted by its name; null where it can run none. */
const Kernels *kernels(void);

Status *product_create(const void *info, int gated, void **kernel);
Status *product_run(void *kernel, void *context);
Status *attention_create(const void *info, void **kernel);
Status *attention_run(void *kernel, void *context);

#endif
