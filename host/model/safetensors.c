/* Reading safetensors: 8 bytes of header length, a JSON header {"name": {"dtype", "shape", "data_offsets"}}, then the
 * tensors' bytes without a gap. Run its test: ctest -R test_checkpoint_safetensors. */
#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"

enum { HEADER_BYTES_MAX = 100000000, INDEX_BYTES_MAX = 16 << 20, SHARDS_MAX = 1024 }; /* the format's own limit first */

typedef struct shard {
    char *path;
    int fd;
    uint64_t data_offset; /* of the first tensor byte in the file */
    uint64_t data_bytes;
} shard;

typedef struct entry {
    kf_tensor t;
    bool hashed;
} entry;

struct kf_checkpoint {
    shard *shards;
    size_t n_shards;
    entry *entries; /* sorted by name once it is open */
    size_t n_entries;
    uint64_t hash;
};

static const struct {
    const char *name;
    size_t bytes;
    kf_dtype dtype;
} dtypes[] = {
    {"F32", 4, KF_F32},          {"BF16", 2, KF_BF16},        {"F16", 2, KF_F16},      {"I32", 4, KF_I32},
    {"BOOL", 1, KF_N_DTYPES},    {"U8", 1, KF_N_DTYPES},      {"I8", 1, KF_N_DTYPES},  {"F8_E5M2", 1, KF_N_DTYPES},
    {"F8_E4M3", 1, KF_N_DTYPES}, {"F8_E8M0", 1, KF_N_DTYPES}, {"I16", 2, KF_N_DTYPES}, {"U16", 2, KF_N_DTYPES},
    {"U32", 4, KF_N_DTYPES},     {"F64", 8, KF_N_DTYPES},     {"I64", 8, KF_N_DTYPES}, {"U64", 8, KF_N_DTYPES},
    {"C64", 8, KF_N_DTYPES},
};

/* The name as far as a message has room for it. */
#define NAME_FMT "%.120s"

const char *kf_shape_text(const size_t *shape, size_t n_dims, char out[96]) {
    size_t n = (size_t)snprintf(out, 96, "[");
    for (size_t i = 0; i < n_dims && n < 90; i++)
        n += (size_t)snprintf(out + n, 96 - n, "%s%zu", i ? ", " : "", shape[i]);
    if (n < 95) snprintf(out + n, 96 - n, "]");
    return out;
}

/* ---- one tensor's line of the header ---- */

static kf_status read_shape(const char *path, const char *name, const json_t *shape, kf_tensor *t, size_t *n_elements) {
    if (!json_is_array(shape) || json_array_size(shape) > KF_TENSOR_MAX_DIMS)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: tensor " NAME_FMT ": shape must be a list of at most %d sizes", path, name,
                       KF_TENSOR_MAX_DIMS);
    *n_elements = 1;
    t->n_dims = json_array_size(shape);
    for (size_t i = 0; i < t->n_dims; i++) {
        const json_t *v = json_array_get(shape, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return KF_FAIL(KF_ERR_CORRUPT, "%s: tensor " NAME_FMT ": size %zu of its shape is no whole number >= 0",
                           path, name, i);
        t->shape[i] = (size_t)json_integer_value(v);
        if (__builtin_mul_overflow(*n_elements, t->shape[i], n_elements))
            return KF_FAIL(KF_ERR_CORRUPT, "%s: tensor " NAME_FMT ": the product of its shape overflows", path, name);
    }
    return KF_OK;
}

static kf_status read_offsets(const shard *f, const char *name, const json_t *offsets, kf_tensor *t) {
    const json_t *a = json_array_get(offsets, 0), *b = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(a) || !json_is_integer(b))
        return KF_FAIL(KF_ERR_CORRUPT, "%s: tensor " NAME_FMT ": data_offsets must be [begin, end]", f->path, name);
    json_int_t begin = json_integer_value(a), end = json_integer_value(b);
    if (begin < 0 || end < begin || (uint64_t)end > f->data_bytes)
        return KF_FAIL(KF_ERR_CORRUPT,
                       "%s: tensor " NAME_FMT ": data_offsets [%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
                       "] lie outside the file's %" PRIu64 " bytes of data: is it truncated?",
                       f->path, name, begin, end, f->data_bytes);
    t->offset = f->data_offset + (uint64_t)begin;
    t->bytes = (size_t)(end - begin);
    return KF_OK;
}

static kf_status read_tensor_line(const shard *f, const char *name, const json_t *line, kf_tensor *t) {
    const char *dtype = json_string_value(json_object_get(line, "dtype"));
    if (!json_is_object(line) || !dtype)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: tensor " NAME_FMT ": no dtype in the header", f->path, name);
    size_t d = 0, n_dtypes = sizeof dtypes / sizeof *dtypes;
    while (d < n_dtypes && strcmp(dtypes[d].name, dtype) != 0)
        d++;
    if (d == n_dtypes)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: tensor " NAME_FMT ": dtype %.20s is none that safetensors has", f->path,
                       name, dtype);
    t->dtype = dtypes[d].dtype;
    t->dtype_name = dtypes[d].name;

    size_t n_elements = 0, bytes = 0;
    char text[96];
    KF_TRY(read_shape(f->path, name, json_object_get(line, "shape"), t, &n_elements));
    KF_TRY(read_offsets(f, name, json_object_get(line, "data_offsets"), t));
    if (__builtin_mul_overflow(n_elements, dtypes[d].bytes, &bytes) || bytes != t->bytes)
        return KF_FAIL(KF_ERR_CORRUPT,
                       "%s: tensor " NAME_FMT ": %s of shape %s needs %zu bytes, its data_offsets give it %zu", f->path,
                       name, dtype, kf_shape_text(t->shape, t->n_dims, text), bytes, t->bytes);
    return KF_OK;
}

/* ---- one file ---- */

static int by_offset(const void *a, const void *b) {
    const kf_tensor *x = &((const entry *)a)->t, *y = &((const entry *)b)->t;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* an empty tensor before the one that starts there */
}

/* The format leaves no gap and allows no overlap; either means that the header lies. Sorts the entries by offset. */
static kf_status check_no_gap(const shard *f, entry *entries, size_t n) {
    qsort(entries, n, sizeof *entries, by_offset);
    uint64_t end = f->data_offset;
    for (size_t i = 0; i < n; i++) {
        const kf_tensor *t = &entries[i].t;
        if (t->offset != end)
            return KF_FAIL(KF_ERR_CORRUPT,
                           "%s: tensor " NAME_FMT " begins at byte %" PRIu64 " of the data, %s the one before, which "
                           "ends at %" PRIu64,
                           f->path, t->name, t->offset - f->data_offset, t->offset < end ? "inside" : "past",
                           end - f->data_offset);
        end += t->bytes;
    }
    if (end != f->data_offset + f->data_bytes)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: its tensors end at byte %" PRIu64 " of the data, the file has %" PRIu64,
                       f->path, end - f->data_offset, f->data_bytes);
    return KF_OK;
}

static kf_status add_entries(kf_checkpoint *c, const json_t *header, size_t file_idx) {
    const shard *f = &c->shards[file_idx];
    size_t n_before = c->n_entries, n_new = json_object_size(header);
    entry *grown = realloc(c->entries, (n_before + n_new + 1) * sizeof *grown);
    if (!grown) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for the list of %zu tensors", f->path, n_new);
    c->entries = grown;

    const char *name;
    json_t *line;
    json_object_foreach((json_t *)header, name, line) {
        if (strcmp(name, "__metadata__") == 0) continue;
        entry e = {.t = {.file_idx = file_idx}};
        KF_TRY(read_tensor_line(f, name, line, &e.t));
        if (!(e.t.name = strdup(name))) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for a tensor's name", f->path);
        c->entries[c->n_entries++] = e;
    }
    return check_no_gap(f, c->entries + n_before, c->n_entries - n_before);
}

static kf_status read_header(kf_checkpoint *c, size_t file_idx, uint64_t file_bytes) {
    shard *f = &c->shards[file_idx];
    unsigned char le[8];
    if (file_bytes < sizeof le + 2)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: %" PRIu64 " bytes long, too short for a safetensors file", f->path,
                       file_bytes);
    KF_TRY(kf_file_pread(f->fd, f->path, "the header's length", le, sizeof le, 0));
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | le[i];
    if (n > HEADER_BYTES_MAX || n > file_bytes - sizeof le)
        return KF_FAIL(KF_ERR_CORRUPT,
                       "%s: its header claims %" PRIu64 " bytes; the file has %" PRIu64 " after the length, the format "
                       "allows %d",
                       f->path, n, file_bytes - sizeof le, HEADER_BYTES_MAX);
    f->data_offset = sizeof le + n;
    f->data_bytes = file_bytes - f->data_offset;

    char *text = malloc((size_t)n + 1);
    if (!text) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for a header of %" PRIu64 " bytes", f->path, n);
    json_t *header = NULL;
    kf_status s = kf_file_pread(f->fd, f->path, "the header", text, (size_t)n, sizeof le);
    KF_STEP(s, kf_json_parse(text, (size_t)n, JSON_REJECT_DUPLICATES, f->path, &header));
    KF_STEP(s, add_entries(c, header, file_idx));
    json_decref(header);
    free(text);
    return s;
}

/* Takes ownership of path, also where it fails. */
static kf_status add_file(kf_checkpoint *c, char *path) {
    if (!path) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a file's path");
    shard *grown = realloc(c->shards, (c->n_shards + 1) * sizeof *grown);
    if (!grown) {
        free(path);
        return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a list of %zu files", c->n_shards + 1);
    }
    c->shards = grown;
    shard *f = &c->shards[c->n_shards++];
    *f = (shard){.path = path, .fd = -1};
    uint64_t file_bytes = 0;
    KF_TRY(kf_file_open(path, &f->fd, &file_bytes));
    return read_header(c, c->n_shards - 1, file_bytes);
}

/* ---- the checkpoint ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->t.name, ((const entry *)b)->t.name);
}

static kf_status sort_by_name(kf_checkpoint *c) {
    if (c->n_entries) qsort(c->entries, c->n_entries, sizeof *c->entries, by_name);
    for (size_t i = 1; i < c->n_entries; i++) {
        const kf_tensor *a = &c->entries[i - 1].t, *b = &c->entries[i].t;
        if (strcmp(a->name, b->name) == 0)
            return KF_FAIL(KF_ERR_CORRUPT, "tensor " NAME_FMT " is in %s and in %s", a->name,
                           c->shards[a->file_idx].path, c->shards[b->file_idx].path);
    }
    return KF_OK;
}

static kf_status add_shard_once(kf_checkpoint *c, const char *dir, const char *index, const char *file, size_t *idx) {
    if (strchr(file, '/') || file[0] == '.' || file[0] == 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: shard \"%.80s\" is no plain file name", index, file);
    size_t at = strlen(dir) + 1;
    for (*idx = 0; *idx < c->n_shards; ++*idx)
        if (strcmp(c->shards[*idx].path + at, file) == 0) return KF_OK;
    if (c->n_shards == SHARDS_MAX) return KF_FAIL(KF_ERR_TOO_LARGE, "%s: more than %d shards", index, SHARDS_MAX);
    return add_file(c, kf_path_join(dir, file));
}

/* {"weight_map": {"tensor": "model-00001-of-00002.safetensors", …}}: every tensor must be where it says. */
static kf_status open_shards(kf_checkpoint *c, const char *dir, const char *index, const json_t *root) {
    json_t *map = json_object_get(root, "weight_map"), *file;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: no weight_map from tensors to files", index);
    const char *name;
    size_t idx = 0;
    json_object_foreach(map, name, file) {
        if (!json_is_string(file)) return KF_FAIL(KF_ERR_CORRUPT, "%s: " NAME_FMT " has no file name", index, name);
        KF_TRY(add_shard_once(c, dir, index, json_string_value(file), &idx));
    }
    KF_TRY(sort_by_name(c));
    json_object_foreach(map, name, file) {
        const kf_tensor *t = kf_checkpoint_find(c, name);
        KF_TRY(add_shard_once(c, dir, index, json_string_value(file), &idx));
        if (!t || t->file_idx != idx)
            return KF_FAIL(KF_ERR_NOT_FOUND, "%s: tensor " NAME_FMT " is not in %s", index, name, c->shards[idx].path);
    }
    return KF_OK;
}

static kf_status open_folder(kf_checkpoint *c, const char *dir) {
    char *single = kf_path_join(dir, "model.safetensors"), *index = kf_path_join(dir, "model.safetensors.index.json");
    bool is_single = false, is_sharded = false;
    kf_status s = single && index ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a file's path");
    KF_STEP(s, kf_path_exists(single, &is_single));
    if (!is_single) KF_STEP(s, kf_path_exists(index, &is_sharded));
    if (s == KF_OK && is_single) {
        s = add_file(c, single);
        single = NULL;
        KF_STEP(s, sort_by_name(c));
    } else if (s == KF_OK && is_sharded) {
        json_t *root = NULL;
        s = kf_json_read(index, INDEX_BYTES_MAX, JSON_REJECT_DUPLICATES, &root, NULL);
        KF_STEP(s, open_shards(c, dir, index, root));
        json_decref(root);
    } else if (s == KF_OK) {
        s = KF_FAIL(KF_ERR_NOT_FOUND, "%s: neither model.safetensors nor model.safetensors.index.json in it", dir);
    }
    free(single);
    free(index);
    return s;
}

static kf_status finish_open(kf_status s, kf_checkpoint *c, kf_checkpoint **out) {
    if (s == KF_OK)
        *out = c;
    else
        kf_checkpoint_close(c);
    return s;
}

kf_status kf_checkpoint_open(const char *dir, kf_checkpoint **out) {
    kf_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for a checkpoint", dir);
    return finish_open(open_folder(c, dir), c, out);
}

kf_status kf_checkpoint_open_file(const char *path, kf_checkpoint **out) {
    kf_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for a checkpoint", path);
    kf_status s = add_file(c, strdup(path));
    KF_STEP(s, sort_by_name(c));
    return finish_open(s, c, out);
}

void kf_checkpoint_close(kf_checkpoint *c) {
    if (!c) return;
    for (size_t i = 0; i < c->n_shards; i++) {
        if (c->shards[i].fd >= 0) close(c->shards[i].fd);
        free(c->shards[i].path);
    }
    for (size_t i = 0; i < c->n_entries; i++)
        free((char *)c->entries[i].t.name);
    free(c->shards);
    free(c->entries);
    free(c);
}

const kf_tensor *kf_checkpoint_find(const kf_checkpoint *c, const char *name) {
    entry key = {.t = {.name = name}};
    const entry *e = c->n_entries ? bsearch(&key, c->entries, c->n_entries, sizeof *c->entries, by_name) : NULL;
    return e ? &e->t : NULL;
}

size_t kf_checkpoint_n_tensors(const kf_checkpoint *c) {
    return c->n_entries;
}

const kf_tensor *kf_checkpoint_tensor(const kf_checkpoint *c, size_t idx) {
    return &c->entries[idx].t;
}

const char *kf_checkpoint_path(const kf_checkpoint *c, const kf_tensor *t) {
    return c->shards[t ? t->file_idx : 0].path;
}

kf_status kf_checkpoint_read(kf_checkpoint *c, const kf_tensor *t, void *dst) {
    const shard *f = &c->shards[t->file_idx];
    KF_TRY(kf_file_pread(f->fd, f->path, t->name, dst, t->bytes, t->offset));
    entry *e = (entry *)t; /* t is the first member of one of our entries */
    if (!e->hashed) {
        uint64_t h = kf_fnv64_words(KF_FNV64_START, t->name, strlen(t->name) + 1);
        h = kf_fnv64_words(h, t->dtype_name, strlen(t->dtype_name) + 1);
        h = kf_fnv64_words(h, t->shape, t->n_dims * sizeof *t->shape);
        c->hash += kf_fnv64_words(h, dst, t->bytes);
        e->hashed = true;
    }
    return KF_OK;
}

uint64_t kf_checkpoint_hash(const kf_checkpoint *c) {
    return c->hash;
}
