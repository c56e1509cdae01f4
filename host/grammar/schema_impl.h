/* What schema.c and schema_string.c share. */
#ifndef KF_GRAMMAR_SCHEMA_IMPL_H
#define KF_GRAMMAR_SCHEMA_IMPL_H

#include <stdlib.h>

#include "grammar/schema.h"

enum {
    KF_TYPE_NULL = 1,
    KF_TYPE_BOOLEAN = 2,
    KF_TYPE_OBJECT = 4,
    KF_TYPE_ARRAY = 8,
    KF_TYPE_NUMBER = 16,
    KF_TYPE_STRING = 32,
    KF_TYPE_INTEGER = 64
};

enum { KF_SCHEMA_MEMBERS_MAX = 512, KF_SCHEMA_NAME_BYTES_MAX = 256 };

/* Where we are: for texts, and for a $ref inside itself. */
typedef struct kf_schema_place {
    const struct kf_schema_place *up; /* NULL at the root */
    const char *name;                 /* NULL: none of its own, a $ref's target */
    const json_t *target;             /* of a $ref, or the root */
} kf_schema_place;

typedef struct kf_schema {
    kf_nfa *n;
    const json_t *root;
    unsigned nesting, n_any, depth;
    bool nests;      /* something is in itself, or may be */
    char unmet[512]; /* the first reason why something cannot be met, "" */
} kf_schema;

/* Fails with "response_format: schema at PLACE: `keyword` why". Returns KF_NFA_NONE, as what fails does here. */
int32_t kf_schema_fail(kf_schema *b, const kf_schema_place *p, kf_status s, const char *keyword, const char *why);

/* A count from 0 to most of that keyword into *out, `otherwise` where it is not there. False: a failure. */
bool kf_schema_count(kf_schema *b, const kf_schema_place *p, const json_t *s, const char *name, size_t most,
                     size_t otherwise, size_t *out);

int32_t kf_schema_value(kf_schema *b, const kf_schema_place *p, const json_t *s, int32_t to);
int32_t kf_schema_string(kf_schema *b, const kf_schema_place *p, const json_t *s, int32_t to);

/* "name", and a name that is none of those, with their quotes. */
int32_t kf_schema_name(kf_schema *b, const char *name, int32_t to);
int32_t kf_schema_other_name(kf_schema *b, const char *const *names, size_t n_names, int32_t to);

#endif
