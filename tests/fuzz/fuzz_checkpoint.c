/* Aim: no bytes crash the readers of a checkpoint, and what passes them is what their headers promise.
 * Method: libFuzzer. The first byte says what the rest is: a safetensors file (each tensor that is listed must be
 * read), an index of shards, or a config.json (its sizes must be in range). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/config.h"
#include "model/safetensors.h"

#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) __builtin_trap();                                                                                 \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A folder whose files are in memory: links to memfds, written anew for every input. */
static struct {
    char dir[64];
    int index_fd, config_fd, file_fd;
    char file[64];
} folder;

static int link_to_memory(const char *name) {
    char target[64], path[128];
    int fd = memfd_create(name, 0);
    MUST(fd >= 0);
    snprintf(target, sizeof target, "/proc/%d/fd/%d", getpid(), fd);
    snprintf(path, sizeof path, "%s/%s", folder.dir, name);
    MUST(symlink(target, path) == 0);
    return fd;
}

static void remove_folder(void) {
    static const char *const names[] = {"model.safetensors.index.json", "config.json", "file.safetensors"};
    char path[128];
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder.dir, names[i]);
        unlink(path);
    }
    rmdir(folder.dir);
}

static void make_folder(void) {
    strcpy(folder.dir, "/tmp/kefu-fuzz-XXXXXX");
    MUST(mkdtemp(folder.dir));
    folder.index_fd = link_to_memory("model.safetensors.index.json");
    folder.config_fd = link_to_memory("config.json");
    folder.file_fd = link_to_memory("file.safetensors");
    snprintf(folder.file, sizeof folder.file, "%s/file.safetensors", folder.dir);
    atexit(remove_folder);
}

static void fill(int fd, const uint8_t *data, size_t n) {
    MUST(ftruncate(fd, 0) == 0);
    MUST(pwrite(fd, data, n, 0) == (ssize_t)n);
}

static void read_all(kf_checkpoint *c) {
    for (size_t i = 0; i < kf_checkpoint_n_tensors(c); i++) {
        const kf_tensor *t = kf_checkpoint_tensor(c, i);
        char *bytes = malloc(t->bytes + 1);
        MUST(bytes && kf_checkpoint_find(c, t->name) == t);
        MUST(kf_checkpoint_read(c, t, bytes) == KF_OK);
        free(bytes);
    }
}

static void try_file(const uint8_t *data, size_t n) {
    kf_checkpoint *c = NULL;
    fill(folder.file_fd, data, n);
    if (kf_checkpoint_open_file(folder.file, &c) == KF_OK) read_all(c);
    kf_checkpoint_close(c);
}

/* The shards that an index can name are those of this folder: file.safetensors, with one tensor "w". */
static void try_index(const uint8_t *data, size_t n) {
    static const char shard[] =
        "\x36\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}1234";
    kf_checkpoint *c = NULL;
    fill(folder.file_fd, (const uint8_t *)shard, sizeof shard - 1);
    fill(folder.index_fd, data, n);
    if (kf_checkpoint_open(folder.dir, &c) == KF_OK) {
        MUST(kf_checkpoint_find(c, "w"));
        read_all(c);
    }
    kf_checkpoint_close(c);
}

static void try_config(const uint8_t *data, size_t n) {
    kf_config c = {0};
    fill(folder.config_fd, data, n);
    if (kf_config_read(folder.dir, &c) != KF_OK) return;
    MUST(c.vocab_size && c.hidden && c.intermediate && c.n_layers && c.n_heads && c.n_kv_heads && c.head_dim);
    MUST(c.max_positions && c.eps > 0 && (unsigned)c.act < KF_N_ACTIVATIONS && c.n_heads % c.n_kv_heads == 0);
    MUST(c.n_eos <= KF_MAX_EOS && (c.family == KF_FAMILY_DECODER || c.hidden == c.n_heads * c.head_dim));
    for (size_t i = 0; i < c.n_labels; i++)
        MUST(c.labels[i]);
    for (size_t i = 0; i < c.n_eos; i++)
        MUST(c.eos_ids[i] >= 0 && (size_t)c.eos_ids[i] < c.vocab_size);
    kf_config_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!folder.dir[0]) make_folder();
    if (n == 0) return 0;
    if (data[0] % 3 == 0) try_file(data + 1, n - 1);
    if (data[0] % 3 == 1) try_index(data + 1, n - 1);
    if (data[0] % 3 == 2) try_config(data + 1, n - 1);
    return 0;
}
