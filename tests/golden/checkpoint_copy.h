/* A golden checkpoint in a folder of its own under /tmp, as it is or changed, with fields of config.json changed or
 * not.
 *
 * Tame, for devices in bf16: every weight is rounded to bf16, so that devices of both formats have the same model, and
 * its matrices are quartered. The checkpoints were made with a gain of 1.6 a product, so that in f32 no mistake hides;
 * such a gain carries bf16's roundings of the first layers to more than 2e-2 in the last, whoever computes.
 *
 * Tail: tame, and what BERT's activation gets lies 4 lower, where the forms of GELU differ by half of their value,
 * and the product behind it has the gain to show that. */
#ifndef KF_TESTS_GOLDEN_CHECKPOINT_COPY_H
#define KF_TESTS_GOLDEN_CHECKPOINT_COPY_H

#include "golden.h"

#include <dirent.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "device/bf16.h"

typedef struct checkpoint_copy {
    char dir[32];
} checkpoint_copy;

#define COPY_GAIN 0.25f /* exact in bf16 */

/* How a copy differs; all zeros: it does not. */
typedef struct copy_change {
    float gain; /* of matrices; not 0: the copy is tame */
    bool tail;
} copy_change;

/* v becomes scale v + shift, rounded to bf16; F16 becomes BF16. */
static inline void copy_change_tensor(char *at, const char *end, const char *dtype, float scale, float shift) {
    const bool wide = strcmp(dtype, "F32") == 0;
    for (; at < end; at += wide ? sizeof(float) : sizeof(uint16_t)) {
        uint16_t half;
        float v;
        memcpy(&half, at, sizeof half);
        v = strcmp(dtype, "F16") == 0 ? kf_f16_to_f32(half) : kf_bf16_to_f32(half);
        if (wide) memcpy(&v, at, sizeof v);
        half = kf_bf16_from_f32(scale * v + shift);
        v = kf_bf16_to_f32(half);
        if (wide)
            memcpy(at, &v, sizeof v);
        else
            memcpy(at, &half, sizeof half);
    }
}

/* The tensors of a safetensors file at `data`, and the formats in its header. */
static inline void copy_change_tensors(json_t *header, char *data, copy_change how) {
    const char *name;
    json_t *tensor;
    json_object_foreach(header, name, tensor) {
        const char *dtype = json_string_value(json_object_get(tensor, "dtype"));
        json_t *offsets = json_object_get(tensor, "data_offsets");
        float scale = json_array_size(json_object_get(tensor, "shape")) == 2 ? how.gain : 1, shift = 0;
        if (!dtype) continue;
        if (how.tail && strstr(name, "intermediate.dense.bias")) shift = -4;
        if (how.tail && strstr(name, ".output.dense.weight") && !strstr(name, "attention")) scale = 4096;
        copy_change_tensor(data + json_integer_value(json_array_get(offsets, 0)),
                           data + json_integer_value(json_array_get(offsets, 1)), dtype, scale, shift);
        if (strcmp(dtype, "F16") == 0) json_object_set_new(tensor, "dtype", json_string("BF16"));
    }
}

/* A safetensors file: 8 bytes of length, a JSON header, the tensors. */
static inline void copy_weights(const char *file, size_t bytes, FILE *to, copy_change how) {
    uint64_t header_bytes;
    memcpy(&header_bytes, file, sizeof header_bytes);
    const char *data = file + sizeof header_bytes + header_bytes;
    const size_t data_bytes = bytes - sizeof header_bytes - header_bytes;
    char *changed = malloc(data_bytes + 1);
    json_t *header = json_loadb(file + sizeof header_bytes, header_bytes, 0, NULL);
    assert_true(changed && header);
    memcpy(changed, data, data_bytes);
    copy_change_tensors(header, changed, how);
    char *text = json_dumps(header, JSON_COMPACT | JSON_PRESERVE_ORDER);
    assert_non_null(text);
    header_bytes = strlen(text);
    assert_int_equal(fwrite(&header_bytes, sizeof header_bytes, 1, to), 1);
    assert_int_equal(fwrite(text, 1, header_bytes, to), header_bytes);
    assert_int_equal(fwrite(changed, 1, data_bytes, to), data_bytes);
    json_decref(header);
    free(text);
    free(changed);
}

static inline void copy_file(const char *from, const char *to, copy_change how) {
    size_t n, length = strlen(from), suffix = strlen(".safetensors");
    char *bytes;
    assert_int_equal(kf_file_read(from, SIZE_MAX, &bytes, &n), KF_OK);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    if (how.gain != 0 && length > suffix && strcmp(from + length - suffix, ".safetensors") == 0)
        copy_weights(bytes, n, f, how);
    else
        assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    free(bytes);
}

static inline void copy_folder(const char *from, const char *to, copy_change how) {
    DIR *dir = opendir(from);
    if (!dir) fail_msg("%s: no such folder", from);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char source[512], target[512];
        struct stat st;
        if (*e->d_name == '.') continue;
        assert_true(snprintf(source, sizeof source, "%s/%s", from, e->d_name) < (int)sizeof source);
        assert_true(snprintf(target, sizeof target, "%s/%s", to, e->d_name) < (int)sizeof target);
        assert_int_equal(stat(source, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            assert_int_equal(mkdir(target, 0700), 0);
            copy_folder(source, target, how);
        } else {
            copy_file(source, target, how);
        }
    }
    closedir(dir);
}

static inline checkpoint_copy copy_make(const char *model, copy_change how) {
    char from[256];
    checkpoint_copy c = {.dir = "/tmp/kefu-golden-XXXXXX"};
    snprintf(from, sizeof from, GOLDEN_DIR "/%s", model);
    assert_non_null(mkdtemp(c.dir));
    copy_folder(from, c.dir, how);
    return c;
}

/* Sets a field that config.json has to `value`, as JSON. */
static inline void copy_set(const checkpoint_copy *c, const char *field, const char *value) {
    char path[64];
    snprintf(path, sizeof path, "%s/config.json", c->dir);
    json_t *root = json_load_file(path, 0, NULL), *v = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(root);
    assert_non_null(v);
    assert_non_null(json_object_get(root, field)); /* a field of the config, not one that nobody reads */
    assert_int_equal(json_object_set_new(root, field, v), 0);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

static inline void copy_remove(const checkpoint_copy *c) {
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", c->dir);
    assert_int_equal(system(command), 0);
}

#endif
