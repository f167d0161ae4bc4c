/* What an operator library needs of ONNX Runtime's C interface, version 17 (ONNX Runtime 1.17 and later): its functions by
   their place in the table, which later versions only ever extend. */

#ifndef SHAMMAH_ORT_H
#define SHAMMAH_ORT_H

#include <stddef.h>
#include <stdint.h>

enum { ORT_VERSION = 17, ORT_FAIL = 1, ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT32 = 6, ORT_REQUIRED = 0, ORT_OPTIONAL = 1 };

typedef void Status; /* null where all is well */
typedef void (*Function)(void);
typedef struct {
    const Function *(*table)(uint32_t version);
    const char *(*version)(void);
} OrtBase;

/* The table that RegisterCustomOps was given. */
extern const Function *ort;

#define ORT_CALL(place, result, ...) ((result(*)(__VA_ARGS__))ort[place])
#define ort_status ORT_CALL(0, Status *, int, const char *)
#define ort_create_domain ORT_CALL(26, Status *, const char *, void **)
#define ort_domain_add ORT_CALL(27, Status *, void *, const void *)
#define ort_add_domain ORT_CALL(28, Status *, void *, void *)
#define ort_data ORT_CALL(51, Status *, void *, void **)
#define ort_tensor_of ORT_CALL(55, Status *, const void *, const void **)
#define ort_rank ORT_CALL(61, Status *, const void *, size_t *)
#define ort_sides ORT_CALL(62, Status *, const void *, int64_t *, size_t)
#define ort_count ORT_CALL(64, Status *, const void *, size_t *)
#define ort_shape ORT_CALL(65, Status *, const void *, void **)
#define ort_float ORT_CALL(85, Status *, const void *, const char *, float *)
#define ort_integer ORT_CALL(86, Status *, const void *, const char *, int64_t *)
#define ort_inputs ORT_CALL(88, Status *, const void *, size_t *)
#define ort_input ORT_CALL(90, Status *, const void *, size_t, const void **)
#define ort_output ORT_CALL(91, Status *, void *, size_t, const int64_t *, size_t, void **)
#define ort_release_status ORT_CALL(93, void, Status *)
#define ort_release_type ORT_CALL(98, void, void *)
#define ort_release_shape ORT_CALL(99, void, void *)
#define ort_known_inputs ORT_CALL(230, Status *, const void *, size_t *)
#define ort_type_of_input ORT_CALL(234, Status *, const void *, size_t, void **)
#define ort_parallel ORT_CALL(274, Status *, const void *, void (*)(void *, size_t), size_t, size_t, void *)

typedef struct Operator {
    uint32_t version;
    void *(*create)(const struct Operator *, const void *, const void *);
    const char *(*name)(const struct Operator *);
    const char *(*provider)(const struct Operator *);
    int (*input_type)(const struct Operator *, size_t);
    size_t (*input_count)(const struct Operator *);
    int (*output_type)(const struct Operator *, size_t);
    size_t (*output_count)(const struct Operator *);
    void (*compute)(void *, void *);
    void (*destroy)(void *);
    int (*input_presence)(const struct Operator *, size_t);
    int (*output_presence)(const struct Operator *, size_t);
    int (*input_memory)(const struct Operator *, size_t);
    int (*least_inputs)(const struct Operator *);
    int (*inputs_alike)(const struct Operator *);
    int (*least_outputs)(const struct Operator *);
    int (*outputs_alike)(const struct Operator *);
    Status *(*create_or_fail)(const struct Operator *, const void *, const void *, void **);
    Status *(*compute_or_fail)(void *, void *);
    Status *(*infer_shape)(const struct Operator *, void *);
    int (*first_version)(const struct Operator *);
    int (*last_version)(const struct Operator *);
    size_t (*in_place)(int **, int **);
    void (*release_in_place)(int *, int *);
    size_t (*aliases)(int **, int **);
    void (*release_aliases)(int *, int *);
} Operator;

#endif
